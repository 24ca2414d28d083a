package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/sealmq/sealmq/client"
	"github.com/sealmq/sealmq/mqtt"
	"github.com/sealmq/sealmq/transport/websocket"
)

// link is a broker to connect to, again and again if need be.
type link struct {
	o       *clientOptions
	cfg     client.Config
	files   tlsFiles
	target  string // for messages
	backoff client.Backoff
	made    bool   // a connection has stood before
	id      string // the client identifier of the last connection
}

// errTimedOut is the cause of a context that -W has ended.
var errTimedOut = errors.New("timed out")

// newLink turns the flags into a configuration; nothing is sent yet.
func (o *clientOptions) newLink(ctx context.Context) (*link, error) {
	if err := o.resolve(); err != nil {
		return nil, err
	}
	if o.srv {
		if err := o.lookUp(ctx); err != nil {
			return nil, err
		}
	}
	l := &link{o: o}
	d := &client.Dialer{Address: net.JoinHostPort(o.host, strconv.Itoa(int(o.port))), Local: o.bind}
	l.target = d.Address
	if o.unix != "" {
		d.Network, d.Address = "unix", o.unix
		l.target = o.unix
	}
	var err error
	if o.secure {
		if d.TLS, l.files, err = o.tlsConfig(); err != nil {
			return nil, err
		}
	}
	if o.ws {
		d.Upgrade = o.upgrade
	}
	l.cfg.Dial = d.Dial
	return l, l.configure()
}

// upgrade makes a WebSocket of a connection.
func (o *clientOptions) upgrade(conn net.Conn) (net.Conn, error) {
	path, host := o.path, o.host
	if path == "" {
		path = client.DefaultPath
	}
	if own := map[bool]uint16{true: 443, false: 80}; o.port != own[o.secure] {
		host = net.JoinHostPort(o.host, strconv.Itoa(int(o.port)))
	} else if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	var c websocket.ClientOptions
	if v, err := o.protocol(); err == nil && v == mqtt.V31 {
		c.Protocol = websocket.ProtocolV31
	}
	return websocket.NewClient(conn, host, path, c)
}

// configure fills in what goes into CONNECT.
func (l *link) configure() (err error) {
	o, c, p := l.o, &l.cfg, &l.o.props
	if c.Version, err = o.protocol(); err != nil {
		return err
	}
	if c.SessionExpiry, err = o.sessionExpiry(); err != nil {
		return err
	}
	c.ClientID = o.id
	if o.idPrefix != "" {
		c.ClientID = o.idPrefix + strconv.Itoa(os.Getpid())
	}
	if o.persistent && c.ClientID == "" {
		return usagef("-c needs a client id: -i ID")
	}
	if c.Version == mqtt.V31 && c.ClientID == "" {
		c.ClientID = "sealmq-" + rand.Text()[:16]
	}
	if c.Version != mqtt.V5 {
		if o.expiry != "" && o.given("session-expiry-interval") {
			return usagef("-x needs protocol version 5")
		}
		c.SessionExpiry = 0
	}
	c.CleanStart = !o.persistent
	c.KeepAlive = o.keepAlive
	c.Username, c.HasUsername = o.username, o.given("username")
	if o.password != "" || o.given("pw") {
		c.Password = []byte(o.password)
	}
	if c.Version != mqtt.V5 && c.Password != nil && c.Username == "" {
		return usagef("-P without -u needs protocol version 5")
	}
	if o.willTopic != "" {
		will := p.will
		will.Topic, will.Payload = o.willTopic, []byte(o.willPayload)
		will.QoS, will.Retain = o.willQoS, o.willRetain
		c.Will = &will
	}
	c.ReceiveMaximum = p.receiveMaximum
	c.TopicAliasMaximum = p.topicAliasMaximum
	c.MaximumPacketSize = p.maximumPacketSize
	c.RequestResponseInfo = p.requestResponseInfo
	c.NoProblemInfo = p.noProblemInfo
	c.AuthMethod, c.AuthData = p.authMethod, p.authData
	c.User = p.connect
	if err := c.Validate(); err != nil {
		return withExit(exitUsage, err)
	}
	return nil
}

// lookUp replaces the domain by what its SRV record says.
func (o *clientOptions) lookUp(ctx context.Context) error {
	service := "mqtt"
	if o.secure {
		service = "secure-mqtt"
	}
	_, found, err := net.DefaultResolver.LookupSRV(ctx, service, "tcp", o.host)
	if err != nil || len(found) == 0 {
		return withExit(exitUnreachable, fmt.Errorf("look up _%s._tcp.%s: %w", service, o.host, err))
	}
	o.host, o.port = strings.TrimSuffix(found[0].Target, "."), found[0].Port
	return nil
}

// connect makes the first connection, or, after one was lost, tries again with
// growing pauses until the broker answers, refuses for good, or ctx ends.
func (l *link) connect(ctx context.Context) (*client.Client, error) {
	for {
		l.o.debugf("connecting to %s", l.target)
		began := time.Now()
		c, err := client.Connect(ctx, l.cfg)
		if err == nil {
			s := c.Server()
			l.o.debugf("connected as %q in %v, session present: %v, keep alive %d s",
				s.ClientID, time.Since(began).Round(time.Millisecond), s.SessionPresent, s.KeepAlive)
			if l.made {
				l.o.note("connected to %s again", l.target)
			}
			l.made, l.id = true, s.ClientID
			return c, nil
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if !l.made || !passing(err) {
			return nil, l.explain(err)
		}
		l.o.debugf("%v", err)
		if l.backoff.Wait(ctx) != nil {
			return nil, context.Cause(ctx)
		}
	}
}

// lost decides after the end of a connection: nil means connect again.
func (l *link) lost(ctx context.Context, c *client.Client, since time.Time) error {
	c.Wait()
	err := c.Err()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if !passing(err) {
		return l.explain(err)
	}
	l.o.note("%v, connecting again", err)
	if time.Since(since) > time.Minute {
		l.backoff.Reset()
	}
	if l.backoff.Wait(ctx) != nil {
		return context.Cause(ctx)
	}
	return nil
}

// passing tells a trouble that time may cure from one that it will not.
func passing(err error) bool {
	var (
		server *client.ServerError
		verify *client.VerifyError
		wire   *mqtt.Error
	)
	switch {
	case errors.As(err, &verify), errors.As(err, &wire):
		return false
	case errors.As(err, &server):
		switch server.Code {
		case mqtt.ServerUnavailable, mqtt.ServerBusy, mqtt.ServerShuttingDown, mqtt.KeepAliveTimeout,
			mqtt.QuotaExceeded, mqtt.ConnectionRateExceeded, mqtt.MessageRateTooHigh, mqtt.UnspecifiedError,
			mqtt.ImplementationSpecificError, mqtt.MaximumConnectTime:
			return true
		}
		return false
	}
	return true
}

// deadline is ctx with the end that -W sets.
func (o *clientOptions) deadline(ctx context.Context) (context.Context, context.CancelFunc) {
	if o.timeout == 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeoutCause(ctx, time.Duration(o.timeout)*time.Second, errTimedOut)
}

// goodbye is the DISCONNECT of the -D flags.
func (o *clientOptions) goodbye(c *client.Client) error {
	return c.DisconnectWith(&o.props.disconnect)
}
