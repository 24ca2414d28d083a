package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"sync"

	"github.com/spf13/cobra"

	"github.com/sealmq/sealmq/client"
	"github.com/sealmq/sealmq/mqtt"
	"github.com/sealmq/sealmq/topic"
)

type rrOptions struct {
	clientOptions
	printOptions
	payloadOptions
	responseTopic string
	noRetained    bool

	mu          sync.Mutex
	correlation []byte
	answer      *client.Message
	answered    chan struct{}
}

func newRRCmd() *cobra.Command {
	o := &rrOptions{answered: make(chan struct{})}
	cmd := &cobra.Command{
		Use:   "rr [URL] -t TOPIC [-e RESPONSE-TOPIC] [-m MESSAGE | -f FILE | -s | -n] [FLAGS]",
		Short: "Send a request and print the response",
		Long: `  sealmq rr -t door/open -m front               ask, print the answer
  sealmq rr -t door/open -e answers/me -m front -W 5
  sealmq rr mqtts://broker.example/door/open -n --cafile ca.pem --cert me.pem --key me.key

Send a request and print the first response. The request carries the response
topic and correlation data; a response with other correlation data is not ours.
The flags are those of mosquitto_rr.

` + formatHelp,
	}
	f := cmd.Flags()
	o.printOptions.define(cmd)
	f.StringVarP(&o.responseTopic, "response-topic", "e", "", "`TOPIC` of the response (default: one by chance)")
	f.StringVarP(&o.message, "message", "m", "", "`MESSAGE` to send")
	f.StringVarP(&o.file, "file", "f", "", "send the contents of `FILE`")
	f.BoolVarP(&o.stdin, "stdin-file", "s", false, "send all of stdin")
	f.BoolVarP(&o.null, "null-message", "n", false, "send an empty message")
	f.BoolVarP(&o.noRetained, "no-retained", "R", false, "a retained message is not the response")
	return clientCommand(cmd, &o.clientOptions, o.run)
}

func (o *rrOptions) run(args []string) error {
	rest, err := o.arguments(args)
	if err != nil {
		return err
	}
	if err := o.printOptions.prepare(); err != nil {
		return err
	}
	ctx, cancel := o.deadline(o.cmd.Context())
	defer cancel()
	l, err := o.newLink(ctx)
	if err != nil {
		return err
	}
	o.topics = append(o.topics, rest...)
	if len(o.topics) != 1 {
		return usagef("rr needs one topic for the request: -t TOPIC")
	}
	if err := topic.ValidName(o.topics[0]); err != nil {
		return usagef("-t %s: topic name %w", printable(o.topics[0]), err)
	}
	if o.responseTopic != "" {
		if err := topic.ValidName(o.responseTopic); err != nil {
			return usagef("-e %s: topic name %w", printable(o.responseTopic), err)
		}
	}
	m := o.props.publish
	m.Topic, m.QoS = o.topics[0], o.qos
	if m.Payload, err = o.load(o.cmd); err != nil {
		return err
	}
	l.cfg.OnMessage = o.onMessage
	l.cfg.RequestResponseInfo = l.cfg.Version == mqtt.V5 && o.responseTopic == ""
	return o.ask(ctx, l, &m)
}

// ask makes one connection, subscribes to the response, sends the request and waits.
func (o *rrOptions) ask(ctx context.Context, l *link, m *client.Message) error {
	c, err := l.connect(ctx)
	if err != nil {
		return l.explain(err)
	}
	if o.responseTopic == "" {
		prefix := c.Server().ResponseInfo // where the broker wants responses to be
		if prefix == "" {
			prefix = "rr"
		}
		o.responseTopic = prefix + "/" + rand.Text()
	}
	if l.cfg.Version == mqtt.V5 {
		m.ResponseTopic = o.responseTopic
		if m.CorrelationData == nil {
			m.CorrelationData = []byte(rand.Text())
		}
		o.mu.Lock()
		o.correlation = m.CorrelationData
		o.mu.Unlock()
	}
	err = o.exchange(ctx, l, c, m)
	if bye := o.goodbye(c); err == nil && bye != nil {
		o.debugf("%v", bye)
	}
	if err != nil {
		return err
	}
	return o.printOptions.print(o.cmd.OutOrStdout(), o.answer)
}

func (o *rrOptions) exchange(ctx context.Context, l *link, c *client.Client, m *client.Message) error {
	_, err := c.SubscribeWith(ctx, client.SubscribeOptions{ID: o.props.subscriptionID, User: o.props.subscribe},
		client.Subscription{Filter: o.responseTopic, QoS: o.qos})
	if err != nil {
		return o.failed(ctx, l, c, exitSubscribe, err)
	}
	if _, err := c.Publish(ctx, m); err != nil {
		return o.failed(ctx, l, c, exitPublish, err)
	}
	select {
	case <-o.answered:
		return nil
	case <-ctx.Done():
		return l.explain(context.Cause(ctx))
	case <-c.Done():
		return l.explain(c.Err())
	}
}

// failed: code counts when the broker said no to this one request.
func (o *rrOptions) failed(ctx context.Context, l *link, c *client.Client, code int, err error) error {
	var refusal mqtt.ReasonCode
	switch {
	case ctx.Err() != nil:
		return l.explain(context.Cause(ctx))
	case c.Err() == nil && errors.As(err, &refusal):
		return l.refused(code, err)
	}
	return l.explain(err)
}

// onMessage takes the first message that answers the request.
func (o *rrOptions) onMessage(m *client.Message) {
	o.mu.Lock()
	defer o.mu.Unlock()
	other := m.CorrelationData != nil && o.correlation != nil && !bytes.Equal(m.CorrelationData, o.correlation)
	if o.answer != nil || other || o.noRetained && m.Retain {
		return
	}
	o.answer = m
	close(o.answered)
}
