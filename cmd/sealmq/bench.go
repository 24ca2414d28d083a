package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/sealmq/sealmq/bench"
	"github.com/sealmq/sealmq/client"
)

type benchOptions struct {
	clientOptions
	cfg       bench.Config
	count     int // -n
	group     string
	local     []string
	webSocket string
	json      bool
	html      string
	quietLine bool // no progress
	broker    string
	process   *benchProcess // restart
}

func newBenchCmd() *cobra.Command {
	o := &benchOptions{}
	cmd := &cobra.Command{
		Use:   "bench SCENARIO [URL] [FLAGS]",
		Short: "Measure any broker: rates, latencies, losses, CPU and memory",
		Long: `  sealmq bench pairs -n 500 --rate 10000               latency of the broker on this machine at a steady rate
  sealmq bench fanout -n 200 --pid $(pidof mosquitto) mqtt://localhost      as fast as it goes, and what it costs
  sealmq bench idle -n 9000 --pid $PID --cafile ca.pem  memory of a connection
  sealmq bench storm --storm 10000 --html storm.html    how a rush of clients disturbs the others
  sealmq bench offline -q 1 --window 100 --pid $PID     what it costs to keep messages for clients that are away

Measure a broker, SealMQ or any other. Scenarios:
  pairs     -n publishers, each with a subscriber of its own
  fanout    -n subscribers of everything that one publisher sends
  fanin     -n publishers, one subscriber of everything
  shared    -n publishers, four subscribers that share one subscription
  connect   -n connections, opened and closed
  idle      -n connections with a subscription each, and silence
  storm     paced pairs, and then --storm clients connect at once
  resume    -n clients connect, leave and come back with a TLS ticket
  offline   -n publishers, each with a subscriber that is away; at the end they come
  backlog   paced pairs, and then a client comes back for --backlog messages
  restart   -n sessions with messages waiting; --broker is killed and started again

With --rate the load is an open loop: a message's latency counts from when it was
due, so that no stall stays hidden. Without, each publisher keeps a --window of
messages on their way, which shows the highest rate. On one machine the generator
takes its share of the processors: compare the broker's CPU for each message (--pid).`,
		SilenceErrors: true, SilenceUsage: true,
		DisableFlagsInUseLine: true,
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			var names []string
			for _, s := range bench.Scenarios {
				names = append(names, string(s))
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error { return o.run(args) },
	}
	cmd.Long += "\n\n" + exitCodesHelp
	o.cmd = cmd
	o.given = cmd.Flags().Changed
	o.defineBench(cmd.Flags())
	dataFlag(cmd, &o.data)
	return cmd
}

// defineBench has the connection flags of pub and sub, and those of a load.
func (o *benchOptions) defineBench(f *pflag.FlagSet) {
	c := &o.cfg
	f.IntVarP(&o.count, "clients", "n", 100, "`N` clients, as the scenario counts them")
	f.Float64Var(&c.Rate, "rate", 0, "`N` messages a second of all publishers together (connect, idle, resume: connections); 0: as fast as it goes")
	f.IntVar(&c.Window, "window", 0, "without --rate: at most `N` messages on their way for each publisher (default 200)")
	f.DurationVarP(&c.Duration, "duration", "d", 10*time.Second, "measured `TIME`")
	f.DurationVar(&c.Warmup, "warmup", 2*time.Second, "`TIME` before it that is not measured")
	f.DurationVar(&c.Ramp, "ramp", 0, "the rate rises during this `TIME`, before the warm-up")
	f.IntVarP(&c.Payload, "size", "s", 64, "`BYTES` of payload, at least 16")
	f.Uint8VarP(&c.QoS, "qos", "q", 0, "quality of service `QOS`: 0, 1 or 2")
	f.IntVar(&c.Topics, "topics", 1, "`N` topics for each publisher")
	f.IntVar(&c.Burst, "burst", 1, "with --rate: `N` messages are due at the same moment")
	f.StringArrayVar(&c.UserProperties, "user-property", nil, "`NAME=VALUE` in every message (MQTT 5)")
	f.IntVar(&c.Publishers, "publishers", 0, "`N` publishers, where the scenario's own number does not suit")
	f.IntVar(&c.Subscribers, "subscribers", 0, "`N` subscribers, likewise")
	f.IntVar(&c.Storm, "storm", 1000, "storm: `N` clients that connect at once")
	f.IntVar(&c.Backlog, "backlog", 0, "backlog, restart: `N` messages waiting (default 200000; restart: 10 for each session)")
	f.StringVar(&o.broker, "broker", "", "restart: the `COMMAND` that becomes the broker, run by sh; it is killed and started again")
	f.BoolVar(&c.Persistent, "persistent", false, "receivers' sessions outlive their connections: clean session 0, or a session expiry")
	f.BoolVar(&c.PersistentPublishers, "persistent-publishers", false, "publishers' sessions likewise")
	f.IntVar(&c.Parallel, "parallel", 32, "`N` connections being opened at a time")
	f.Float64Var(&c.ConnectRate, "connect-rate", 0, "`N` connections a second while the clients come in")

	f.IntVar(&c.PID, "pid", 0, "process `ID` of the broker on this machine, for its CPU, memory and disk")
	f.StringVar(&c.Disk, "disk", "", "with --pid: count the flushes of the disk that `FOLDER` is on")
	f.BoolVar(&o.json, "json", false, "print the result as JSON")
	f.StringVar(&o.html, "html", "", "write a report with plots to `FILE`")
	f.BoolVar(&o.quietLine, "no-progress", false, "no progress line on stderr")

	f.StringVarP(&o.host, "host", "h", "localhost", "`HOST` of the broker")
	f.Uint16VarP(&o.port, "port", "p", 0, "`PORT` of the broker (default 8883; 1883 means no TLS)")
	f.StringVarP(&o.url, "url", "L", "", "broker as `URL` mqtts://[user[:password]@]host[:port]")
	f.StringVar(&o.unix, "unix", "", "connect to the unix socket at `PATH` (no TLS)")
	f.StringVar(&o.webSocket, "ws", "", "through a WebSocket with this `PATH`, such as /mqtt")
	f.StringVarP(&o.version, "protocol-version", "V", "mqttv5", "MQTT `VERSION`: mqttv5, mqttv311 or mqttv31")
	f.StringVarP(&c.ClientID, "id-prefix", "I", "", "client ids begin with `PREFIX` (default bench- and something random)")
	f.StringVar(&c.Topic, "topic-prefix", "", "topics begin with `PREFIX` (default bench/ and something random)")
	f.StringVarP(&o.username, "username", "u", "", "user `NAME`")
	f.StringVarP(&o.password, "pw", "P", "", "`PASSWORD`")
	f.Uint16VarP(&c.KeepAlive, "keepalive", "k", 0, "keep alive in `SECONDS`, 0: none")
	f.StringVar(&o.caFile, "cafile", "", "PEM `FILE` of the CAs that the broker's certificate may come from")
	f.StringVar(&o.caPath, "capath", "", "`FOLDER` of such files")
	f.BoolVar(&o.osCerts, "tls-use-os-certs", false, "trust the CAs of the operating system")
	f.StringVar(&o.cert, "cert", "", "PEM `FILE` of the client certificate")
	f.StringVar(&o.key, "key", "", "PEM `FILE` of its private key")
	f.StringVar(&o.tlsVersion, "tls-version", "", "the TLS `VERSION`: tlsv1.2 or tlsv1.3 (default: the highest)")
	f.StringVar(&o.group, "tls-group", "", "the key-exchange `GROUP`: x25519, x25519mlkem768 or p-256 (default: as negotiated)")
	f.StringVar(&o.alpn, "tls-alpn", "", "`PROTOCOL` to ask for by ALPN")
	f.BoolVar(&o.noTLS, "no-tls", false, "connect in the clear")
	f.BoolVar(&o.insecure, "insecure", false, "do not check the broker's host name, nor, without --cafile or --capath, its certificate")
	f.BoolVar(&o.reallyInsecure, "insecure-yes-send-credentials", false, "with --insecure: send a password all the same")
	f.StringSliceVar(&o.local, "local", nil, "connect from these `ADDRESSES` in turn: each has about 28,000 ports")
	f.Bool("help", false, "this page")
	f.SortFlags = false
}

func (o *benchOptions) run(args []string) error {
	if len(args) == 0 {
		return withExit(exitUsage, errors.New("name a scenario: "+scenarioNames()), o.cmd.CommandPath()+" --help")
	}
	o.cfg.Scenario = bench.Scenario(args[0])
	rest, err := o.arguments(args[1:])
	if err == nil && len(rest) > 0 {
		err = usagef("one scenario and one URL, got %q", rest[0])
	}
	if err != nil {
		return err
	}
	d, files, err := o.configureBench()
	if err != nil {
		return err
	}
	// Collecting seldom costs little here: nothing is allocated for a message.
	defer debug.SetGCPercent(debug.SetGCPercent(400))
	line := o.progress()
	if o.process != nil {
		defer o.process.stop()
	}
	result, err := bench.Run(o.cmd.Context(), o.cfg)
	line.end()
	if err != nil {
		l := &link{o: &o.clientOptions, files: files, target: d.Address}
		err = explainBench(l, err)
	}
	if result == nil {
		return err
	}
	result.Target, result.TLS = d.Address, d.Negotiated()
	if werr := o.report(result); werr != nil {
		return werr
	}
	return err
}

func scenarioNames() string {
	var names []string
	for _, s := range bench.Scenarios {
		names = append(names, string(s))
	}
	return strings.Join(names, ", ")
}

// configureBench turns the flags into a configuration; nothing is sent yet.
func (o *benchOptions) configureBench() (*bench.Dialer, tlsFiles, error) {
	c := &o.cfg
	var files tlsFiles
	oneVersion := strings.ToLower(o.tlsVersion)
	if o.tlsVersion == "" {
		o.tlsVersion = "tlsv1.2"
	}
	if err := o.check(); err != nil {
		return nil, files, err
	}
	var err error
	if c.Version, err = o.protocol(); err != nil {
		return nil, files, err
	}
	if err := o.resolve(); err != nil {
		return nil, files, err
	}
	c.Clients = o.count
	c.Timed = c.Scenario == bench.Connect && o.given("duration")
	if !o.given("warmup") && c.Scenario == bench.Idle {
		c.Warmup = 5 * time.Second
	}
	if c.Warmup == 0 {
		c.Warmup = -1
	}
	c.Username = o.username
	if o.password != "" || o.given("pw") {
		c.Password = []byte(o.password)
	}
	var pairs []string
	for _, p := range c.UserProperties {
		name, value, ok := strings.Cut(p, "=")
		if !ok {
			return nil, files, usagef("--user-property %s: NAME=VALUE is wanted", p)
		}
		pairs = append(pairs, name, value)
	}
	c.UserProperties = pairs
	if c.Scenario == bench.Restart {
		if o.broker == "" || c.PID != 0 {
			return nil, files, usagef("restart starts the broker itself: give its command with --broker, and no --pid")
		}
		o.process = &benchProcess{command: o.broker, output: o.cmd.ErrOrStderr()}
		c.Restart = o.process.restart
	} else if o.broker != "" {
		return nil, files, usagef("--broker is for restart")
	}
	d := &bench.Dialer{Address: net.JoinHostPort(o.host, strconv.Itoa(int(o.port))), WebSocket: o.webSocket}
	if o.unix != "" {
		d.Network, d.Address = "unix", o.unix
	}
	if o.secure {
		if d.TLS, files, err = o.tlsConfig(); err != nil {
			return nil, files, err
		}
		if err := o.narrowTLS(d.TLS, oneVersion); err != nil {
			return nil, files, err
		}
	} else if c.Scenario == bench.Resume && !c.Persistent {
		return nil, files, usagef("resume without TLS needs --persistent: there is nothing else to come back with")
	}
	for _, a := range o.local {
		ip := net.ParseIP(a)
		if ip == nil {
			return nil, files, usagef("--local %s: not an IP address", a)
		}
		d.Local = append(d.Local, &net.TCPAddr{IP: ip})
	}
	c.Dial = d.Dial
	if c.Scenario == bench.Resume {
		c.Dial = d.WithTickets(max(c.Clients, 1))
	}
	if err := c.Validate(); err != nil {
		return nil, files, withExit(exitUsage, err, o.cmd.CommandPath()+" --help")
	}
	return d, files, nil
}

// narrowTLS leaves one version and one group, as the flags say.
func (o *benchOptions) narrowTLS(cfg *tls.Config, version string) error {
	if version == "tlsv1.2" {
		cfg.MaxVersion = tls.VersionTLS12
	}
	// One record for what is written at once, as brokers do.
	cfg.DynamicRecordSizingDisabled = true
	switch strings.ToLower(o.group) {
	case "":
	case "x25519":
		cfg.CurvePreferences = []tls.CurveID{tls.X25519}
	case "x25519mlkem768":
		cfg.CurvePreferences = []tls.CurveID{tls.X25519MLKEM768}
	case "p-256", "p256", "secp256r1":
		cfg.CurvePreferences = []tls.CurveID{tls.CurveP256}
	default:
		return usagef("--tls-group %s: groups are x25519, x25519mlkem768 and p-256", o.group)
	}
	return nil
}

// report writes what was asked for.
func (o *benchOptions) report(r *bench.Result) error {
	if o.html != "" {
		f, err := os.Create(o.html)
		if err != nil {
			return withExit(exitFile, fmt.Errorf("write report: %w", err))
		}
		err = r.WriteHTML(f)
		if cerr := f.Close(); err == nil {
			err = cerr
		}
		if err != nil {
			return withExit(exitFile, fmt.Errorf("write report: %w", err))
		}
	}
	out := o.cmd.OutOrStdout()
	if o.json {
		e := json.NewEncoder(out)
		e.SetIndent("", "  ")
		return e.Encode(r)
	}
	return r.WriteText(out)
}

// explainBench gives an error its exit code and says what to do.
func explainBench(l *link, err error) error {
	var (
		refused   *bench.ServerError
		handshake *bench.HandshakeError
		sub       *bench.SubscribeError
		pub       *bench.PublishError
		limit     *bench.LimitError
		verify    *tls.CertificateVerificationError
	)
	switch {
	case errors.As(err, &limit):
		return withExit(exitFailure, err, "ulimit -n "+strconv.Itoa(limit.Need)+", in the shell that starts this")
	case errors.As(err, &sub):
		return withExit(exitSubscribe, err)
	case errors.As(err, &pub):
		return withExit(exitPublish, err)
	case errors.Is(err, bench.ErrLost):
		return withExit(exitLost, err)
	case errors.As(err, &verify):
		return l.explain(&client.VerifyError{Err: verify.Err})
	case errors.As(err, &handshake):
		return l.explain(&client.HandshakeError{Err: handshake.Err})
	case errors.As(err, &refused):
		return l.explain(&client.ServerError{Packet: refused.Packet, Code: refused.Code, Reason: refused.Reason})
	case errors.Is(err, context.Canceled):
		return withExit(exitFailure, errors.New("interrupted"))
	}
	return l.explain(err)
}

// progressLine is rewritten in place on a terminal and silent elsewhere.
type progressLine struct {
	w     io.Writer
	width int
}

func (o *benchOptions) progress() *progressLine {
	p := &progressLine{}
	if o.quietLine || !isTerminal(o.cmd.ErrOrStderr()) {
		return p
	}
	p.w = o.cmd.ErrOrStderr()
	o.cfg.Progress = p.show
	return p
}

func (p *progressLine) show(b bench.Progress) {
	line := b.Line()
	width := len([]rune(line))
	fmt.Fprintf(p.w, "\r%s%s", line, strings.Repeat(" ", max(p.width-width, 0)))
	p.width = width
}

// end makes room for the result.
func (p *progressLine) end() {
	if p.width > 0 {
		fmt.Fprintf(p.w, "\r%s\r", strings.Repeat(" ", p.width))
	}
}
