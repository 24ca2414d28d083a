package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/sealmq/sealmq/client"
	"github.com/sealmq/sealmq/mqtt"
	"github.com/sealmq/sealmq/topic"
)

// printOptions are the ways to print a message; sub and rr share them.
type printOptions struct {
	format  string
	noEOL   bool
	verbose bool
	json    bool
	pretty  bool

	compiled outputFormat
}

func (p *printOptions) define(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVarP(&p.format, "format", "F", "", "print messages by `FORMAT`, listed above")
	f.BoolVarP(&p.noEOL, "no-eol", "N", false, "no line end after a message")
	f.BoolVarP(&p.verbose, "verbose", "v", false, "print the topic before the payload")
	f.BoolVar(&p.json, "json", false, "print messages as JSON, one a line (as -F %j)")
	f.BoolVar(&p.pretty, "pretty", false, "print JSON over several lines")
}

// formatHelp is the part of the help pages about -F.
const formatHelp = `Format (-F):
  %t topic  %p payload  %x %X payload in hex  %l its length  %q QoS  %r retained  %m packet id
  %C content type  %D correlation data  %E message expiry  %F payload format  %P user properties
  %R response topic  %S subscription identifier  %A topic alias
  %I time, ISO 8601  %U time, seconds since 1970  @H @M @S @N ... time as by strftime(3), @N nanoseconds
  %j the message as JSON  %J the same, the payload being JSON itself  %% @@ \\ \n \t \0 \e \a \r \v
  flags, width and limit as in %-20t, %05l, %.10C`

func (p *printOptions) prepare() (err error) {
	format := "%p"
	switch {
	case p.format != "":
		format = p.format
	case p.json:
		format = "%j"
	case p.verbose:
		format = "%t %p"
	}
	if !p.noEOL {
		defer func() { p.compiled = append(p.compiled, formatPart{literal: "\n"}) }()
	}
	if p.compiled, err = parseFormat(format); err != nil {
		return withExit(exitUsage, err)
	}
	return nil
}

// print writes one message with one call, so that a reader of a pipe gets it whole.
func (p *printOptions) print(w io.Writer, m *client.Message) error {
	b, err := p.compiled.append(nil, m, time.Now(), p.pretty)
	if err != nil {
		return err
	}
	_, err = w.Write(b)
	return err
}

type subOptions struct {
	clientOptions
	printOptions
	count          uint64
	exitAfterSub   bool
	noRetained     bool
	retainedOnly   bool
	removeRetained bool
	asPublished    bool
	handling       string
	noLocal        bool
	filterOut      []string
	unsubscribe    []string
	random         float64

	mu      sync.Mutex
	c       *client.Client // the connection there is
	seen    uint64
	over    bool  // -C or --retained-only has been reached
	failure error // of printing
}

func newSubCmd() *cobra.Command {
	o := &subOptions{}
	cmd := &cobra.Command{
		Use:   "sub [URL] [TOPIC...] [FLAGS]",
		Short: "Receive messages and print them",
		Long: `  sealmq sub '#'                                every message of the broker on this machine
  sealmq sub -v 'sensors/+/temperature' -q 1    with the topic in front
  sealmq sub -t lamp -C 1 -W 10                 one message, or exit code 27 after 10 seconds
  sealmq sub mqtts://broker.example/# --json --cafile ca.pem --cert me.pem --key me.key

Receive messages and print them, until interrupted. A lost connection is made
again. The flags are those of mosquitto_sub; without any, the operator
certificate of the broker on this machine is used.

` + formatHelp,
	}
	f := cmd.Flags()
	o.printOptions.define(cmd)
	f.Uint64VarP(&o.count, "count", "C", 0, "end after `N` messages")
	f.BoolVarP(&o.exitAfterSub, "exit-after-subscribe", "E", false, "end when the subscriptions are acknowledged")
	f.BoolVarP(&o.noRetained, "no-retained", "R", false, "do not print retained messages")
	f.BoolVar(&o.retainedOnly, "retained-only", false, "print retained messages, end at the first other one")
	f.BoolVar(&o.removeRetained, "remove-retained", false, "clear the retained messages received")
	f.BoolVar(&o.asPublished, "retain-as-published", false, "leave the retain flag as it was published")
	f.StringVar(&o.handling, "retain-handling", "always", "`WHEN` retained messages are sent at subscription: always, new or never")
	f.BoolVar(&o.noLocal, "no-local", false, "do not receive what this client id sends")
	f.StringArrayVarP(&o.filterOut, "filter-out", "T", nil, "do not print what matches `FILTER`, may be repeated")
	f.StringArrayVarP(&o.unsubscribe, "unsubscribe", "U", nil, "end the subscription to `FILTER`, may be repeated")
	f.Float64Var(&o.random, "random-filter", 100, "print this `PERCENTAGE` of the messages, by chance")
	return clientCommand(cmd, &o.clientOptions, o.run)
}

func (o *subOptions) run(args []string) error {
	rest, err := o.arguments(args)
	if err != nil {
		return err
	}
	o.topics = append(o.topics, rest...)
	if err := o.printOptions.prepare(); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(o.cmd.Context())
	defer cancel()
	l, err := o.newLink(ctx)
	if err != nil {
		return err
	}
	subs, err := o.subscriptions(l)
	if err != nil {
		return err
	}
	if o.persistent || l.cfg.SessionExpiry > 0 {
		l.cfg.Session = new(client.Session)
	}
	l.cfg.OnMessage = o.onMessage
	return o.loop(ctx, l, subs)
}

// subscriptions checks topics and options before anything is sent.
func (o *subOptions) subscriptions(l *link) ([]client.Subscription, error) {
	if len(o.topics) == 0 && len(o.unsubscribe) == 0 {
		return nil, usagef("no topic: -t TOPIC, or '#' for all")
	}
	handling := map[string]uint8{"always": 0, "new": 1, "never": 2}
	h, ok := handling[o.handling]
	if !ok {
		return nil, usagef("--retain-handling %s: always, new or never", o.handling)
	}
	if l.cfg.Version != mqtt.V5 && (o.asPublished || h != 0 || o.noLocal) {
		return nil, usagef("--retain-as-published, --retain-handling and --no-local need protocol version 5")
	}
	if o.random < 0 || o.random > 100 {
		return nil, usagef("--random-filter %v: a percentage", o.random)
	}
	for _, list := range [][]string{o.topics, o.filterOut, o.unsubscribe} {
		for _, t := range list {
			if err := topic.ValidFilter(t); err != nil {
				return nil, usagef("%s: topic filter %w", printable(t), err)
			}
		}
	}
	subs := make([]client.Subscription, len(o.topics))
	for i, t := range o.topics {
		subs[i] = client.Subscription{Filter: t, QoS: o.qos, NoLocal: o.noLocal, RetainAsPublished: o.asPublished, RetainHandling: h}
	}
	return subs, nil
}

// loop holds the subscriptions over as many connections as it takes.
func (o *subOptions) loop(ctx context.Context, l *link, subs []client.Subscription) error {
	timed, cancel := o.deadline(ctx)
	defer cancel()
	for {
		since := time.Now()
		// Messages may come before connect has returned: onMessage waits for o.c.
		o.mu.Lock()
		c, err := l.connect(timed)
		o.c = c
		o.mu.Unlock()
		if err != nil {
			return o.ended(l, err)
		}
		err = o.ask(timed, l, c, subs)
		if err == nil && o.exitAfterSub {
			return o.leave(l, c, nil)
		}
		if err == nil {
			select {
			case <-c.Done():
			case <-timed.Done():
			}
		}
		o.mu.Lock()
		over, failure := o.over, o.failure
		o.mu.Unlock()
		switch {
		case over || failure != nil:
			c.Wait()
			return failure
		case timed.Err() != nil:
			return o.leave(l, c, context.Cause(timed))
		case err != nil && c.Err() == nil:
			return o.leave(l, c, err)
		}
		if err := l.lost(timed, c, since); err != nil {
			return o.ended(l, err)
		}
	}
}

// ask subscribes and unsubscribes, in this order.
func (o *subOptions) ask(ctx context.Context, l *link, c *client.Client, subs []client.Subscription) error {
	p := &o.props
	if len(subs) > 0 {
		codes, err := c.SubscribeWith(ctx, client.SubscribeOptions{ID: p.subscriptionID, User: p.subscribe}, subs...)
		refused := 0
		for i, code := range codes {
			o.debugf("subscribed to %s: %v", subs[i].Filter, code)
			if code.IsError() {
				refused++
				o.note("subscribe %q: refused by the broker: %v (0x%02X)", subs[i].Filter, code.Error(), uint8(code))
			}
		}
		// Some may be had though others are not: as long as one is, go on.
		if err != nil && (refused == 0 || refused == len(subs)) {
			if refused > 0 {
				err = told{err}
			}
			return l.refused(exitSubscribe, err)
		}
	}
	if len(o.unsubscribe) > 0 {
		if _, err := c.UnsubscribeWith(ctx, p.unsubscribe, o.unsubscribe...); err != nil {
			return withExit(exitSubscribe, err)
		}
	}
	return nil
}

// leave disconnects in order; why is what it ends with.
func (o *subOptions) leave(l *link, c *client.Client, why error) error {
	err := o.goodbye(c)
	if why == nil {
		why = err
	}
	return o.ended(l, why)
}

// ended: being interrupted is how sub is meant to end.
func (o *subOptions) ended(l *link, err error) error {
	if err == nil || o.cmd.Context().Err() != nil {
		return nil
	}
	return l.explain(err)
}

// onMessage prints m, unless a flag says no.
func (o *subOptions) onMessage(m *client.Message) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.retainedOnly && !m.Retain {
		o.finish(nil)
		return
	}
	for _, f := range o.filterOut {
		if topic.Match(f, m.Topic) {
			return
		}
	}
	if o.removeRetained && m.Retain && len(m.Payload) > 0 {
		clear := &client.Message{Topic: m.Topic, Retain: true}
		if err := o.c.PublishAsync(context.Background(), clear, nil); err != nil {
			o.note("%v", err)
		}
	}
	if o.noRetained && m.Retain || o.random < 100 && rand.Float64()*100 >= o.random {
		return
	}
	if err := o.printOptions.print(o.cmd.OutOrStdout(), m); err != nil {
		var write interface{ Timeout() bool }
		if errors.As(err, &write) { // stdout itself
			o.finish(withExit(exitFailure, fmt.Errorf("write message: %w", err)))
			return
		}
		o.note("%v", err)
	}
	if o.seen++; o.count > 0 && o.seen >= o.count {
		o.finish(nil)
	}
}

// finish ends the program with the message at hand; o.mu is held.
func (o *subOptions) finish(err error) {
	o.over, o.failure = true, err
	o.c.LeaveWith(&o.props.disconnect)
}
