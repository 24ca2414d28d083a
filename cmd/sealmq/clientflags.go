package main

import (
	"errors"
	"fmt"
	"math"
	"net"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/sealmq/sealmq/client"
	"github.com/sealmq/sealmq/mqtt"
)

// clientOptions are the flags that pub, sub and rr share. Names and meanings
// are those of mosquitto_pub and mosquitto_sub; only the defaults differ: TLS
// on 8883 and protocol version 5.
type clientOptions struct {
	cmd  *cobra.Command
	data string // folder of the local broker

	host, unix, bind   string
	port               uint16
	srv                bool
	url                string
	ws                 bool
	path               string // what WebSocket asks for
	id, idPrefix       string
	username, password string
	keepAlive          uint16
	persistent         bool // -c
	expiry             string
	version            string
	qos                uint8
	properties         []string // NUL-joined words of each -D
	debug, quiet       bool
	noDelay            bool
	timeout            uint32 // -W, seconds

	willTopic, willPayload string
	willQoS                uint8
	willRetain             bool

	caFile, caPath, cert, key string
	osCerts                   bool
	tlsVersion, alpn          string
	noTLS                     bool
	insecure, reallyInsecure  bool

	props  propertySet
	given  func(flag string) bool
	topics []string // -t, the URL's, and arguments
	secure bool     // TLS, as decided by resolve
}

func (o *clientOptions) define(f *pflag.FlagSet) {
	f.StringVarP(&o.host, "host", "h", "localhost", "`HOST` of the broker")
	f.Uint16VarP(&o.port, "port", "p", 0, "`PORT` of the broker (default 8883; 1883 means no TLS)")
	f.StringVarP(&o.url, "url", "L", "", "broker and topic as `URL` mqtts://[user[:password]@]host[:port][/topic], or broker as wss://…[/path]")
	f.BoolVar(&o.ws, "ws", false, "speak MQTT over WebSocket, as wss:// and ws:// in a URL do; asks for the path /mqtt")
	f.StringVar(&o.unix, "unix", "", "connect to the unix socket at `PATH` (no TLS)")
	f.BoolVarP(&o.srv, "srv", "S", false, "look up the broker of the domain given by -h with DNS SRV")
	f.StringVarP(&o.bind, "bind", "A", "", "connect from this local `ADDRESS`")
	f.StringArrayVarP(&o.topics, "topic", "t", nil, "`TOPIC`, may be repeated for sub")
	f.Uint8VarP(&o.qos, "qos", "q", 0, "quality of service `QOS`: 0, 1 or 2")

	f.StringVarP(&o.id, "id", "i", "", "client `ID` (default: the broker chooses)")
	f.StringVarP(&o.idPrefix, "id-prefix", "I", "", "client id is `PREFIX` and the process id")
	f.StringVarP(&o.username, "username", "u", "", "user `NAME`")
	f.StringVarP(&o.password, "pw", "P", "", "`PASSWORD`")
	f.Uint16VarP(&o.keepAlive, "keepalive", "k", 60, "keep alive in `SECONDS`")
	f.BoolVarP(&o.persistent, "disable-clean-session", "c", false, "keep the session when disconnected; needs -i")
	f.StringVarP(&o.expiry, "session-expiry-interval", "x", "", "keep the session for `SECONDS`; -1 for ever (default -1 with -c, else 0)")
	f.StringVarP(&o.version, "protocol-version", "V", "mqttv5", "MQTT `VERSION`: mqttv5, mqttv311 or mqttv31 (or 5, 311, 31)")
	f.StringArrayVarP(&o.properties, "property", "D", nil, "MQTT 5 property: `PACKET NAME VALUE`, or PACKET user-property NAME VALUE")
	f.Uint32VarP(&o.timeout, "timeout", "W", 0, "give up after `SECONDS` (exit code 27)")

	f.StringVar(&o.willTopic, "will-topic", "", "`TOPIC` of the will")
	f.StringVar(&o.willPayload, "will-payload", "", "`PAYLOAD` of the will")
	f.Uint8Var(&o.willQoS, "will-qos", 0, "quality of service `QOS` of the will")
	f.BoolVar(&o.willRetain, "will-retain", false, "retain the will")

	f.StringVar(&o.caFile, "cafile", "", "PEM `FILE` of the CAs that the broker's certificate may come from")
	f.StringVar(&o.caPath, "capath", "", "`FOLDER` of such files")
	f.BoolVar(&o.osCerts, "tls-use-os-certs", false, "trust the CAs of the operating system")
	f.StringVar(&o.cert, "cert", "", "PEM `FILE` of the client certificate")
	f.StringVar(&o.key, "key", "", "PEM `FILE` of its private key")
	f.StringVar(&o.tlsVersion, "tls-version", "tlsv1.2", "lowest TLS `VERSION`: tlsv1.2 or tlsv1.3")
	f.StringVar(&o.alpn, "tls-alpn", "", "`PROTOCOL` to ask for by ALPN")
	f.BoolVar(&o.noTLS, "no-tls", false, "connect in the clear")
	f.BoolVar(&o.insecure, "insecure", false, "do not check the broker's host name, nor, without --cafile or --capath, its certificate")
	f.BoolVar(&o.reallyInsecure, "insecure-yes-send-credentials", false, "with --insecure: send a password all the same")

	f.BoolVarP(&o.debug, "debug", "d", false, "tell on stderr what happens")
	f.BoolVar(&o.quiet, "quiet", false, "print no errors")
	f.BoolVar(&o.noDelay, "nodelay", true, "send small packets at once (always so)")
	f.MarkHidden("nodelay")
	f.Bool("help", false, "this page")
	f.SortFlags = false
}

// clientCommand builds pub, sub or rr. The flags are parsed here, not by cobra:
// -D takes three or four words, which have to be joined first.
func clientCommand(cmd *cobra.Command, o *clientOptions, run func(args []string) error) *cobra.Command {
	o.cmd = cmd
	o.define(cmd.Flags())
	dataFlag(cmd, &o.data)
	o.given = cmd.Flags().Changed
	cmd.Long += "\n\n" + exitCodesHelp
	cmd.DisableFlagParsing = true
	cmd.DisableFlagsInUseLine = true
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.ValidArgsFunction = completeFlags
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		joined, err := joinProperties(cmd.Flags(), args)
		if err == nil {
			err = cmd.Flags().Parse(joined)
		}
		if help, _ := cmd.Flags().GetBool("help"); help {
			return cmd.Help()
		}
		if err != nil {
			return flagError(cmd, err)
		}
		if err = o.check(); err == nil {
			err = run(cmd.Flags().Args())
		}
		if err != nil && o.quiet && exitCode(err) != exitUsage {
			return withExit(exitCode(err), errors.New(""))
		}
		return err
	}
	return cmd
}

// flagError words what pflag found.
func flagError(cmd *cobra.Command, err error) error {
	var (
		invalid *pflag.InvalidValueError
		missing *pflag.ValueRequiredError
	)
	switch {
	case errors.As(err, &invalid) && invalid.GetFlag().Name == "port":
		return usagef("-p %s: not a port, which is a number from 1 to 65535", printable(invalid.GetValue()))
	case errors.As(err, &missing) && missing.GetFlag().Name == "host":
		return withExit(exitUsage, err, "-h is the host; help is "+cmd.CommandPath()+" --help")
	}
	return withExit(exitUsage, err, cmd.CommandPath()+" --help")
}

// check finds what can be found without the network.
func (o *clientOptions) check() error {
	if o.qos > 2 {
		return usagef("-q %d: quality of service is 0, 1 or 2", o.qos)
	}
	if o.willQoS > 2 {
		return usagef("--will-qos %d: quality of service is 0, 1 or 2", o.willQoS)
	}
	if o.willTopic == "" && (o.given("will-payload") || o.given("will-qos") || o.willRetain) {
		return usagef("--will-payload, --will-qos and --will-retain need --will-topic")
	}
	if o.id != "" && o.idPrefix != "" {
		return usagef("-i and -I cannot be used together")
	}
	if (o.cert == "") != (o.key == "") {
		return usagef("--cert and --key are needed together")
	}
	if o.given("port") && o.port == 0 {
		return usagef("-p 0: a port is 1 to 65535")
	}
	if strings.Contains(o.host, "://") {
		return withExit(exitUsage, fmt.Errorf("-h %s: that is a URL, which goes without -h or into -L", printable(o.host)))
	}
	if host, port, err := net.SplitHostPort(o.host); err == nil {
		return withExit(exitUsage, fmt.Errorf("-h %s: the port goes into -p", printable(o.host)), commandLine("-h", host, "-p", port))
	}
	if _, err := o.protocol(); err != nil {
		return err
	}
	for _, words := range o.properties {
		if err := o.props.add(strings.Split(words, "\x00")); err != nil {
			return err
		}
	}
	if len(o.properties) > 0 && o.given("protocol-version") {
		if v, _ := o.protocol(); v != mqtt.V5 {
			return usagef("-D needs protocol version 5")
		}
	}
	return nil
}

func (o *clientOptions) protocol() (mqtt.Version, error) {
	switch strings.TrimPrefix(strings.ToLower(o.version), "mqttv") {
	case "5":
		return mqtt.V5, nil
	case "311":
		return mqtt.V311, nil
	case "31":
		return mqtt.V31, nil
	}
	return 0, usagef("-V %s: versions are mqttv5, mqttv311 and mqttv31", o.version)
}

// sessionExpiry is -x in seconds.
func (o *clientOptions) sessionExpiry() (uint32, error) {
	switch o.expiry {
	case "":
		if o.persistent {
			return math.MaxUint32, nil
		}
		return o.props.sessionExpiry, nil
	case "-1", "∞":
		return math.MaxUint32, nil
	}
	n, err := strconv.ParseUint(o.expiry, 10, 32)
	if err != nil {
		return 0, usagef("-x %s: seconds from 0 to 4294967295, or -1", o.expiry)
	}
	return uint32(n), nil
}

// useURL takes over what a URL says.
func (o *clientOptions) useURL(s string) error {
	u, err := client.ParseURL(s)
	if err != nil {
		return withExit(exitUsage, err)
	}
	o.host, o.port, o.secure = u.Host, u.Port, u.TLS
	o.noTLS = !u.TLS
	if u.WebSocket {
		o.ws, o.path = true, u.Path
	}
	o.url = s
	if u.HasUser {
		o.username = u.User
	}
	if u.HasPassword {
		o.password = u.Password
	}
	if u.Topic != "" {
		o.topics = append(o.topics, u.Topic)
	}
	return nil
}

// resolve settles URL, port and TLS. Nothing goes in the clear that was not
// asked for: by mqtt:// or ws://, by port 1883, by a unix socket or by --no-tls.
func (o *clientOptions) resolve() error {
	tlsAsked := o.caFile != "" || o.caPath != "" || o.cert != "" || o.osCerts || o.insecure || o.alpn != "" || o.given("tls-version")
	if o.url != "" {
		if err := o.useURL(o.url); err != nil {
			return err
		}
	} else {
		o.secure = tlsAsked || !(o.noTLS || o.unix != "" || o.port == 1883)
	}
	if tlsAsked && (o.noTLS || o.unix != "") {
		return usagef("TLS options on a connection without TLS")
	}
	if o.port == 0 {
		o.port = 1883
		if o.secure {
			o.port = 8883
		}
	}
	if o.insecure && o.secure {
		if (o.password != "" || o.props.authData != nil) && !o.reallyInsecure {
			return withExit(exitUsage, errors.New("--insecure: the password would go to a broker that nobody has checked"),
				"give the broker's CA with --cafile FILE instead",
				"or say --insecure-yes-send-credentials")
		}
		what := "the broker's certificate is not checked, anyone could be at the other end"
		if o.caFile != "" || o.caPath != "" {
			what = "the broker's host name is not checked"
		}
		o.warn("--insecure: " + what)
	}
	if !o.secure && o.unix == "" && o.password != "" {
		o.warn("the password is sent in the clear")
	}
	return nil
}

// warn writes a line to stderr, red on a terminal.
func (o *clientOptions) warn(text string) {
	red, plain := "\x1b[31m", "\x1b[0m"
	if !isTerminal(o.cmd.ErrOrStderr()) || os.Getenv("NO_COLOR") != "" || os.Getenv("TERM") == "dumb" {
		red, plain = "", ""
	}
	fmt.Fprintf(o.cmd.ErrOrStderr(), "%swarning: %s%s\n", red, text, plain)
}

// debugf tells what happens, with -d.
func (o *clientOptions) debugf(format string, a ...any) {
	if o.debug {
		fmt.Fprintf(o.cmd.ErrOrStderr(), "sealmq: "+format+"\n", a...)
	}
}

// note is for what goes on behind the user's back: silent with --quiet.
func (o *clientOptions) note(format string, a ...any) {
	if !o.quiet {
		fmt.Fprintf(o.cmd.ErrOrStderr(), "sealmq: "+format+"\n", a...)
	}
}

// arguments sorts what is not a flag: URLs say where, everything else is
// returned.
func (o *clientOptions) arguments(args []string) (rest []string, err error) {
	for _, a := range args {
		if strings.Contains(a, "://") {
			if o.url != "" {
				return nil, usagef("two URLs: one broker at a time")
			}
			o.url = a
			continue
		}
		rest = append(rest, a)
	}
	return rest, nil
}
