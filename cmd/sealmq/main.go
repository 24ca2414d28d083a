// Command sealmq is an MQTT broker sealed by TLS, with the tools around it:
// one binary, a file per command. testdata/*.txt is its specification.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	_ "time/tzdata" // for zones in a policy, where the system has no table of them

	"github.com/sealmq/sealmq"
	"github.com/spf13/cobra"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// A second Ctrl-C ends the process at once.
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run is the whole program; results go to stdout, everything else to stderr.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	root := newRootCmd()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	return printError(stderr, root.ExecuteContext(ctx))
}

func newRootCmd() *cobra.Command {
	root := &cobra.Command{
		Use:   "sealmq",
		Short: "An MQTT broker, sealed by TLS",
		Long: `An MQTT broker, sealed by TLS.

  sealmq serve                       start the broker; everything it needs is made
  sealmq sub -v '#'                  see every message
  sealmq pub -t hello -m world       send one
  sealmq device add pump-17          give a device its own certificate`,
		Args:          noArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return withExit(exitUsage, err, cmd.CommandPath()+" --help")
	})
	root.SetUsageTemplate(usageTemplate)
	root.AddCommand(
		newServeCmd(),
		newInitCmd(),
		newDeviceCmd(),
		newDoctorCmd(),
		newClaimCmd(),
		newFactoryCmd(),
		newOperatorCmd(),
		newCACmd(),
		newCertCmd(),
		newAclCmd(),
		newPasswdCmd(),
		newAuditCmd(),
		newGateCmd(),
		newPubCmd(),
		newSubCmd(),
		newBenchCmd(),
		newRRCmd(),
		newCheckCmd(),
		newVersionCmd(),
	)
	root.AddCommand(newOwnerCmds()...)
	root.Version = sealmq.Version() // for --version and -v
	root.SetVersionTemplate(versionLine())
	root.InitDefaultCompletionCmd()
	if c, _, err := root.Find([]string{"completion"}); err == nil {
		c.Short = "Make a script that completes commands and flags in a shell"
		c.Long = `  source <(sealmq completion bash)              for this shell
  sealmq completion bash --help                 for every new one

` + c.Short + "."
	}
	return root
}

// usageTemplate is what --help prints below a command's own text.
const usageTemplate = `Usage:
  {{if .HasAvailableSubCommands}}{{.CommandPath}} COMMAND{{else}}{{.UseLine}}{{end}}
{{- if .HasAvailableSubCommands}}

Commands:{{range .Commands}}{{if .IsAvailableCommand}}
  {{rpad .Name .NamePadding}}  {{.Short}}{{end}}{{end}}

"{{.CommandPath}} COMMAND --help" says more about a command.
{{- else if .HasAvailableLocalFlags}}

Flags:
{{.LocalFlags.FlagUsages | trimTrailingWhitespaces}}
{{- end}}
`

// noArgs refuses arguments; where a command belongs, it names the nearest.
func noArgs(cmd *cobra.Command, args []string) error {
	switch {
	case len(args) == 0:
		return nil
	case !cmd.HasSubCommands():
		return usagef("%s takes no arguments, got %q", cmd.CommandPath(), args[0])
	}
	var hints []string
	cmd.SuggestionsMinimumDistance = 2
	for _, s := range cmd.SuggestionsFor(args[0]) {
		hints = append(hints, cmd.CommandPath()+" "+s)
	}
	if len(hints) == 0 {
		hints = append(hints, cmd.CommandPath()+" --help")
	}
	return withExit(exitUsage, fmt.Errorf("unknown command %q", args[0]), hints...)
}

// defaultData is the data folder when --data and SEALMQ_DATA are not given.
const defaultData = "sealmq-data"

func dataFlag(cmd *cobra.Command, data *string) {
	def := defaultData
	if env := os.Getenv("SEALMQ_DATA"); env != "" {
		def = env
	}
	cmd.Flags().StringVar(data, "data", def, "`FOLDER` of the broker's data (environment: SEALMQ_DATA)")
}

// onData is onFiles for what works on a data folder.
func onData(data string, err error) error {
	pe := (*fs.PathError)(nil)
	if !errors.Is(err, fs.ErrPermission) || !errors.As(err, &pe) || !concerns(data, pe.Path) {
		return onFiles(err)
	}
	return noAccess(data, err)
}

// concerns tells whether path is the folder, in it, or a folder above it.
func concerns(folder, path string) bool {
	folder, path = filepath.Clean(folder), filepath.Clean(path)
	in := func(a, b string) bool {
		r, err := filepath.Rel(a, b)
		return err == nil && filepath.IsLocal(r)
	}
	return in(folder, path) || in(path, folder)
}

func noAccess(data string, err error) error {
	return withExit(exitFile, fmt.Errorf("cannot use the data folder %s: %w", data, err), "run as its owner, or say --data FOLDER")
}

// onFiles gives an error about files its exit code and its hints.
func onFiles(err error) error {
	var coded *exitError
	if err == nil || errors.As(err, &coded) {
		return err
	}
	var h interface{ Hint() string }
	if errors.As(err, &h) {
		return withExit(exitFile, err, h.Hint())
	}
	if pe := (*fs.PathError)(nil); errors.As(err, &pe) {
		return withExit(exitFile, err)
	}
	return err
}
