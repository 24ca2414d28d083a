package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/config"
	"github.com/sealmq/sealmq/pki"
	"github.com/sealmq/sealmq/transport"
	"github.com/spf13/cobra"
)

func newServeCmd() *cobra.Command {
	var data, file, passphraseFile string
	var memory bool
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the broker",
		Long: `  sealmq serve                              with everything in ./sealmq-data
  sealmq serve --data /var/lib/sealmq       in another folder
  sealmq serve --config sealmq.toml         as the file says; sealmq check tests it
  sealmq serve --memory                     without a store: sessions and messages end with the broker

Run the broker. At first start it makes its own CA, the certificates it needs and
a policy that says who may do what, listens on port 8883 with mutual TLS, and
prints lines to try it.

Ctrl-C and SIGTERM end it orderly: clients are told. SIGHUP reads configuration,
certificates and policy again; when they are bad, the old ones stay in force.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			load := func(read func(string) (sealmq.Config, error)) (sealmq.Config, error) {
				cfg, err := sealmq.Config{Data: data}, error(nil)
				if file != "" {
					cfg, err = read(file)
				}
				cfg.Memory = cfg.Memory || memory
				if cmd.Flags().Changed("data") {
					cfg.Data = data
				}
				if passphraseFile != "" {
					cfg.CA.PassphraseFile = passphraseFile
				}
				return cfg, err
			}
			cfg, err := load(loadConfig)
			if err != nil {
				return err
			}
			if err := keepSecrets(); err != nil {
				fmt.Fprintf(cmd.ErrOrStderr(), "sealmq: warning: a core file of this process would have keys in it: %v\n", err)
			}
			var s *sealmq.Server
			again := func() error {
				cfg, err := load(config.Load)
				if err != nil {
					return err
				}
				return s.Reload(cfg)
			}
			s, err = sealmq.New(cfg, sealmq.WithReload(again), sealmq.WithPassphrase(passphrase(cmd, passphraseFile)))
			if err != nil {
				return onOpen(cfg.Effective(), err)
			}
			if err := s.Listen(); err != nil {
				s.Close()
				if errors.Is(err, syscall.EADDRINUSE) {
					return withExit(exitFailure, err, addressHints(file, data)...)
				}
				return err
			}
			welcome(cmd.OutOrStdout(), s, self())
			return serve(cmd.Context(), s, again, cmd.ErrOrStderr())
		},
	}
	dataFlag(cmd, &data)
	cmd.Flags().StringVar(&file, "config", "", "configuration `FILE`")
	cmd.Flags().StringVar(&passphraseFile, "passphrase-file", "", "`FILE` with the passphrase of the CA's keys (environment: "+passphraseEnv+")")
	cmd.Flags().BoolVar(&memory, "memory", false, "keep sessions and messages in memory only")
	return cmd
}

// onOpen says what is to be done when the broker cannot open its data folder.
func onOpen(cfg sealmq.Config, err error) error {
	if errors.Is(err, pki.ErrWaiting) {
		return onWaiting(cfg.Data, err)
	}
	if cfg.CA.PassphraseFile == "" && os.Getenv(passphraseEnv) == "" && errors.Is(err, pki.ErrNoKey) {
		return withExit(exitFile, err, "--passphrase-file FILE, passphrase_file in the configuration, or the environment variable "+passphraseEnv)
	}
	return onData(cfg.Data, err)
}

// addressHints say how to listen elsewhere, without touching a file that exists.
func addressHints(file, data string) []string {
	if file != "" {
		return []string{"another program listens there; change address in " + file}
	}
	name := "sealmq.toml"
	for n := 2; ; n++ {
		if _, err := os.Lstat(name); errors.Is(err, fs.ErrNotExist) {
			break
		}
		name = fmt.Sprintf("sealmq-%d.toml", n)
	}
	return []string{"another program listens there; another address is two lines in a file:",
		`printf '[[listener]]\naddress = ":8884"\n' >` + name + `; ` + withData(self(), data, "serve", "--config", name)}
}

// serve runs s until ctx ends, and reloads it on SIGHUP.
func serve(ctx context.Context, s *sealmq.Server, reload func() error, stderr io.Writer) error {
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	tuning, stop := context.WithCancel(ctx)
	var tuner sync.WaitGroup
	defer tuner.Wait()
	defer stop()
	tuner.Go(func() { tuneMemory(tuning) })
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	for {
		select {
		case err := <-done:
			return err
		case <-hangup:
			if err := reload(); err != nil {
				printError(stderr, fmt.Errorf("reload: the old configuration stays in force\n%w", err))
				continue
			}
			fmt.Fprintln(stderr, "sealmq: configuration reloaded")
		}
	}
}

// welcome prints what works now: lines to be pasted as they are.
func welcome(w io.Writer, s *sealmq.Server, program []string) {
	cfg := s.Config()
	if e, ok := mutual(s, cfg.Listeners); ok {
		e.ca, e.cert, e.key = s.Folder().OperatorFiles()
		fmt.Fprintf(w, "\nSealMQ is ready on port %d, with mutual TLS. Its CA and keys are in %s%c\n", e.port, filepath.Clean(cfg.Data), filepath.Separator)
		fmt.Fprintf(w, "\nSee every message, send one:\n  %s\n  %s\n",
			e.sealmq(program, cfg.Data, "sub", "-v", "#"),
			e.sealmq(program, cfg.Data, "pub", "-t", "hello", "-m", "world"))
		add := []string{"device", "add", "pump-17"}
		if e.port != 8883 {
			add = append(add, "--port", strconv.Itoa(e.port))
		}
		but := ""
		if e.url == "" {
			fmt.Fprintf(w, "\nThe same with Mosquitto's tools:\n  %s\n  %s\n",
				e.mosquitto("mosquitto_sub", "-v", "-t", "#"),
				e.mosquitto("mosquitto_pub", "-t", "hello", "-m", "world"))
		} else {
			but = " (the code that comes with it needs a listener without WebSocket)"
		}
		fmt.Fprintf(w, "\nGive a device its own identity%s:\n  %s\n\n", but, withData(program, cfg.Data, add...))
		return
	}
	for _, l := range cfg.Listeners {
		addr, ok := s.Addr(l.Name).(*net.TCPAddr)
		if !ok {
			continue
		}
		if !l.Plain {
			fmt.Fprintf(w, "\nSealMQ is ready on port %d, with TLS.\n", addr.Port)
			continue
		}
		e := endpointOf(l, addr)
		fmt.Fprintf(w, "\nSealMQ is ready on port %d, in the clear and for anybody:\n", e.port)
		if e.url != "" {
			fmt.Fprintf(w, "  %s\n  %s\n",
				e.sealmq(program, defaultData, "sub", "-v", "#"),
				e.sealmq(program, defaultData, "pub", "-t", "hello", "-m", "world"))
			continue
		}
		fmt.Fprintf(w, "  %s\n  %s\n",
			e.mosquitto("mosquitto_sub", "-v", "-t", "#"),
			e.mosquitto("mosquitto_pub", "-t", "hello", "-m", "world"))
	}
	fmt.Fprintln(w)
}

// mutual is the listener that the operator's certificate opens, one without
// WebSocket if there is one: more clients speak that.
func mutual(s *sealmq.Server, listeners []sealmq.Listener) (found endpoint, ok bool) {
	for _, l := range listeners {
		addr, tcp := s.Addr(l.Name).(*net.TCPAddr)
		if !tcp || l.Plain || l.Certificate != "" || l.ClientCA != "" || l.ClientCertificates == transport.None || ok && l.WebSocket ||
			l.Enroll || !slices.Contains(l.Chain(), "certificate") {
			continue
		}
		found, ok = endpointOf(l, addr), true
		if !l.WebSocket {
			break
		}
	}
	return found, ok
}

// reachable is the host under which a listener is reached from its own machine.
func reachable(addr *net.TCPAddr) string {
	if addr.IP.IsUnspecified() || addr.IP.IsLoopback() {
		return "localhost"
	}
	return addr.IP.String()
}

// withData is a command line of this program that works on the same data folder.
func withData(program []string, data string, args ...string) string {
	words := append(append([]string{}, program...), args...)
	if filepath.Clean(data) != defaultData {
		words = append(words, "--data", data)
	}
	return commandLine(words...)
}
