package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sealmq/sealmq/client"
	"github.com/sealmq/sealmq/mqtt"
	"github.com/sealmq/sealmq/topic"
)

// maxPayload is the most that one packet can carry, bytes.
const maxPayload = mqtt.MaxRemaining

// payloadOptions are the ways to say what is sent: one of them.
type payloadOptions struct {
	message string
	file    string
	stdin   bool // -s
	null    bool // -n
	lines   bool // -l, pub only
}

type pubOptions struct {
	clientOptions
	payloadOptions
	retain      bool
	inflight    uint16
	repeat      uint32
	repeatDelay float64
	json        bool
}

func newPubCmd() *cobra.Command {
	o := &pubOptions{}
	cmd := &cobra.Command{
		Use:   "pub [URL] [-t TOPIC] [-m MESSAGE | -f FILE | -l | -s | -n] [FLAGS]",
		Short: "Send messages",
		Long: `  sealmq pub -t hello -m world                  to the broker on this machine
  sealmq pub mqtts://broker.example/lamp -m on --cafile ca.pem --cert me.pem --key me.key
  sensor | sealmq pub -t temperature -l -q 1    a message for each line, kept safe
  sealmq pub -t lamp -r -n                      clear a retained message

Send messages. The flags are those of mosquitto_pub; without any, the operator
certificate of the broker on this machine is used.`,
	}
	f := cmd.Flags()
	f.StringVarP(&o.message, "message", "m", "", "`MESSAGE` to send")
	f.StringVarP(&o.file, "file", "f", "", "send the contents of `FILE`")
	f.BoolVarP(&o.lines, "stdin-line", "l", false, "send each line of stdin as a message; reconnects")
	f.BoolVarP(&o.stdin, "stdin-file", "s", false, "send all of stdin as one message")
	f.BoolVarP(&o.null, "null-message", "n", false, "send an empty message")
	f.BoolVarP(&o.retain, "retain", "r", false, "retain the message")
	f.Uint16VarP(&o.inflight, "max-inflight", "M", 20, "with -l: at most `N` messages on their way")
	f.Uint32Var(&o.repeat, "repeat", 1, "send the message `N` times")
	f.Float64Var(&o.repeatDelay, "repeat-delay", 0, "with --repeat: pause between messages, in `SECONDS`")
	f.BoolVar(&o.json, "json", false, "print the broker's answer to each message as a line of JSON")
	return clientCommand(cmd, &o.clientOptions, o.run)
}

// load reads the payload that the flags name.
func (p *payloadOptions) load(cmd *cobra.Command) ([]byte, error) {
	given := 0
	for _, set := range []bool{cmd.Flags().Changed("message"), p.file != "", p.stdin, p.null, p.lines} {
		if set {
			given++
		}
	}
	if given != 1 {
		return nil, usagef("say what to send with one of -m, -f, -s, -n%s", map[bool]string{true: " or -l"}[cmd.Name() == "pub"])
	}
	var src io.Reader
	switch {
	case p.file != "":
		f, err := os.Open(p.file)
		if err != nil {
			return nil, fileError("message", err)
		}
		defer f.Close()
		src = f
	case p.stdin:
		src = cmd.InOrStdin()
	default:
		return []byte(p.message), nil
	}
	b, err := io.ReadAll(io.LimitReader(src, maxPayload+1))
	if err != nil {
		return nil, fileError("message", err)
	}
	if len(b) > maxPayload {
		return nil, withExit(exitFile, fmt.Errorf("read message: more than %d bytes", maxPayload))
	}
	return b, nil
}

func (o *pubOptions) run(args []string) error {
	rest, err := o.arguments(args)
	if err != nil {
		return err
	}
	ctx, cancel := o.deadline(o.cmd.Context())
	defer cancel()
	l, err := o.newLink(ctx)
	if err != nil {
		return err
	}
	for _, a := range rest { // TOPIC [MESSAGE]
		switch {
		case len(o.topics) == 0:
			o.topics = append(o.topics, a)
		case !o.given("message"):
			o.cmd.Flags().Set("message", a)
		default:
			return usagef("what is %q? one topic and one message at a time", a)
		}
	}
	m, err := o.prepare()
	if err != nil {
		return err
	}
	if o.lines {
		return o.sendLines(ctx, l, m)
	}
	return o.send(ctx, l, m)
}

// prepare builds the message and checks it before anything is sent.
func (o *pubOptions) prepare() (*client.Message, error) {
	m := o.props.publish
	switch {
	case len(o.topics) > 1:
		return nil, usagef("pub sends to one topic, got %d", len(o.topics))
	case len(o.topics) == 1:
		m.Topic = o.topics[0]
	case m.TopicAlias == 0:
		return nil, usagef("no topic: -t TOPIC")
	default:
		return nil, usagef("no topic: a topic alias needs one to stand for")
	}
	if err := topic.ValidName(m.Topic); err != nil {
		return nil, usagef("-t %s: topic name %w", printable(m.Topic), err)
	}
	var err error
	if m.Payload, err = o.load(o.cmd); err != nil {
		return nil, err
	}
	m.QoS, m.Retain = o.qos, o.retain
	return &m, nil
}

// send publishes once, or --repeat times.
func (o *pubOptions) send(ctx context.Context, l *link, m *client.Message) error {
	c, err := l.connect(ctx)
	if err != nil {
		return l.explain(err)
	}
	for i := range o.repeat {
		if i > 0 && o.repeatDelay > 0 {
			select {
			case <-time.After(time.Duration(o.repeatDelay * float64(time.Second))):
			case <-ctx.Done():
			}
		}
		code, err := c.Publish(ctx, m)
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		} else {
			o.report(m, code)
		}
		if err != nil {
			o.goodbye(c)
			return o.published(l, err)
		}
	}
	if err := o.goodbye(c); err != nil {
		return l.explain(err)
	}
	return nil
}

// published gives the error of a message its exit code.
func (o *pubOptions) published(l *link, err error) error {
	var server *client.ServerError
	var code mqtt.ReasonCode
	if errors.As(err, &server) || !errors.As(err, &code) {
		return l.explain(err)
	}
	return l.refused(exitPublish, err)
}

// report prints the answer to a message, with --json.
func (o *pubOptions) report(m *client.Message, code mqtt.ReasonCode) {
	if !o.json {
		if code == mqtt.NoMatchingSubscribers {
			o.debugf("%s: %v", m.Topic, code)
		}
		return
	}
	b, _ := json.Marshal(struct {
		Topic      string `json:"topic"`
		QoS        uint8  `json:"qos"`
		Retain     int    `json:"retain"`
		PayloadLen int    `json:"payloadlen"`
		Code       uint8  `json:"code"`
		Reason     string `json:"reason"`
	}{m.Topic, m.QoS, bit(m.Retain), len(m.Payload), uint8(code), code.String()})
	fmt.Fprintf(o.cmd.OutOrStdout(), "%s\n", b)
}

// readLines hands over the lines of r, without their ends; the channel closes
// at the end of r or when ctx is over.
func readLines(ctx context.Context, r io.Reader) (<-chan []byte, func() error) {
	lines := make(chan []byte)
	var failed error
	go func() {
		defer close(lines)
		in := bufio.NewReaderSize(r, 64<<10)
		for {
			line, err := in.ReadBytes('\n')
			if len(line) > maxPayload {
				err = fmt.Errorf("a line has more than %d bytes", maxPayload)
			} else if len(line) > 0 {
				select {
				case lines <- []byte(strings.TrimSuffix(string(line), "\n")):
				case <-ctx.Done():
					return
				}
			}
			if err != nil {
				if err != io.EOF {
					failed = err
				}
				return
			}
		}
	}()
	return lines, func() error { return failed }
}
