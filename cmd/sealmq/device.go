package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/sealmq/sealmq/pki"
	"github.com/spf13/cobra"
)

func newDeviceCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "device",
		Short: "Give devices their certificates",
		Long: `  sealmq device add pump-17    issue a certificate, with snippets to use it

Give devices their certificates.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newDeviceAddCmd())
	return cmd
}

func newDeviceAddCmd() *cobra.Command {
	var (
		data, out, group, host string
		port                   int
	)
	cmd := &cobra.Command{
		Use:   "add ID",
		Short: "Issue a certificate for a device, with snippets to use it",
		Long: `  sealmq device add pump-17                              into the folder pump-17/
  sealmq device add pump-17 --out certs/                 into another
  sealmq device add pump-17 --host broker.example.org    for devices that use this name

Issue a certificate for a device, valid for a year, with snippets to use it. The
private key is written to that folder and kept nowhere else. Nothing is
overwritten.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return withExit(exitUsage, errors.New("name one device"), "sealmq device add pump-17")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			id := args[0]
			if err := pki.CheckID(id); err != nil {
				return withExit(exitUsage, err)
			}
			if strings.HasPrefix(id, "-") {
				return usagef("device id %q begins with a hyphen: programs would take it for a flag", id)
			}
			if port < 1 || port > 65535 {
				return usagef("--port %d is not between 1 and 65535", port)
			}
			f, err := pki.OpenFolder(data, pki.Config{})
			if err != nil {
				return onData(data, err)
			}
			if host == "" {
				host = bestHost(f.CertifiedHosts(), pki.LocalHosts())
			} else if err := pki.CheckHost(host); err != nil {
				return withExit(exitUsage, err)
			}
			b, err := f.IssueDevice(id, group)
			if err != nil {
				return onFiles(err)
			}
			if out == "" {
				out = strings.ReplaceAll(id, ":", "_") // not every file system takes a colon
			}
			to := snippet{ID: id, Host: host, Port: port, Bundle: b}
			files, err := to.files()
			if err != nil {
				return err
			}
			if _, err := os.Lstat(out); errors.Is(err, fs.ErrNotExist) {
				// A folder of keys that is made inside a repository stays out of it.
				files = append(files, pki.File{Name: ".gitignore", Content: []byte("*\n")})
			}
			if err := b.Write(out, files...); err != nil {
				if errors.Is(err, fs.ErrExist) {
					return withExit(exitFile, err, "nothing was written; choose another folder with --out")
				}
				return onFiles(err)
			}
			in := func(name string) string { return filepath.Join(out, name) }
			e := endpoint{host: host, port: port, ca: in("ca.pem"), cert: in("cert.pem"), key: in("key.pem")}
			w := cmd.OutOrStdout()
			fmt.Fprintf(w, "%s%c is ready, valid until %s\n\n", filepath.Clean(out), filepath.Separator, b.Leaf.NotAfter.Format(time.DateOnly))
			fmt.Fprint(w, bundleList)
			fmt.Fprintf(w, "\nTry it:\n  %s\n  %s\n",
				e.mosquitto("mosquitto_sub", "-v", "-t", id+"/#"),
				e.mosquitto("mosquitto_pub", "-t", id+"/hello", "-m", "world"))
			return nil
		},
	}
	dataFlag(cmd, &data)
	cmd.Flags().StringVar(&out, "out", "", "`FOLDER` to write (default: the device's id)")
	cmd.Flags().StringVar(&group, "group", "", "`GROUP` of the device, written into its certificate")
	cmd.Flags().StringVar(&host, "host", "", "`NAME` of the broker in the snippets (default: a name asked for at init, or this machine's address)")
	cmd.Flags().IntVar(&port, "port", 8883, "`PORT` of the broker in the snippets")
	return cmd
}

const bundleList = `  ca.pem  cert.pem  key.pem   the identity; the key exists only here
  mosquitto.txt               lines to paste, a bridge
  paho_device.py              Python: paho-mqtt
  arduino_device.h            ESP32, ESP8266: PubSubClient
  mongoose_device.c           C: Mongoose
`
