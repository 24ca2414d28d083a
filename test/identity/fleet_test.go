package identity

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sealmq/sealmq/mqtt"
)

// fleet registers n devices and issues a certificate to each.
func (h *home) fleet(t *testing.T, n int) []device {
	t.Helper()
	var list strings.Builder
	list.WriteString("id\n")
	ids := make([]string, n)
	for i := range ids {
		ids[i] = fmt.Sprintf("pump-%05d", i)
		fmt.Fprintln(&list, ids[i])
	}
	h.write(t, "fleet.csv", list.String())
	h.sealmq(t, "device", "import", "fleet.csv")
	begin := time.Now()
	out := h.sealmq(t, "device", "renew", "--all", "--yes", "--for", "mosquitto", "--out", "fleet")
	if took := time.Since(begin); took > 5*time.Second && !strings.Contains(out, fmt.Sprintf(" of %d\n", n)) {
		t.Errorf("nothing said how far it was, for %v:\n%s", took, out)
	}
	all := make([]device, n)
	for i, id := range ids {
		all[i] = deviceIn(h.path("fleet", id), id)
	}
	return all
}

// pair is a device's certificate for crypto/tls.
func (d device) pair(t *testing.T) tls.Certificate {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(d.cert, d.key)
	if err != nil {
		t.Fatal(err)
	}
	return pair
}

func pool(t *testing.T, pem string) *x509.CertPool {
	t.Helper()
	p := x509.NewCertPool()
	if !p.AppendCertsFromPEM([]byte(pem)) {
		t.Fatal("no certificate in the PEM file")
	}
	return p
}

// errRefused is a broker's no, in the handshake or in CONNACK; any other error
// is trouble on the way there.
var errRefused = errors.New("refused")

// connect makes an MQTT connection by hand: a client with less than a goroutine
// of its own, of which there can be 10,000.
func connect(e endpoint, cfg *tls.Config, version mqtt.Version, clientID string) (*tls.Conn, error) {
	d := tls.Dialer{NetDialer: &net.Dialer{Timeout: *patience}, Config: cfg}
	tcp, err := d.NetDialer.Dial("tcp", e.String())
	if err != nil {
		return nil, err
	}
	c := tls.Client(tcp, cfg)
	c.SetDeadline(time.Now().Add(*patience))
	no := func(err error) (*tls.Conn, error) {
		tcp.Close()
		// Its alert is the broker's word; so is the end of a connection whose alert was lost because more was sent.
		if op := (*net.OpError)(nil); errors.As(err, &op) && op.Op == "remote error" || strings.Contains(err.Error(), "connection reset") ||
			strings.Contains(err.Error(), "broken pipe") {
			err = fmt.Errorf("%w: %w", errRefused, err)
		}
		return nil, err
	}
	if err := c.Handshake(); err != nil {
		return no(err)
	}
	hello := mqtt.Connect{Version: version, CleanStart: true, ClientID: []byte(clientID)}
	if _, err := c.Write(hello.Append(nil, version)); err != nil {
		return no(err)
	}
	var head [2]byte
	if _, err := io.ReadFull(c, head[:]); err != nil {
		return no(err)
	}
	body := make([]byte, head[1]&0x7f)
	if _, err := io.ReadFull(c, body); err != nil {
		return no(err)
	}
	if head[0] != 0x20 || len(body) < 2 || body[1] != 0 {
		return no(fmt.Errorf("%w: CONNACK % x % x", errRefused, head, body))
	}
	c.SetDeadline(time.Time{})
	return c, nil
}

// each runs do for 0 to n-1, a few at a time.
func each(n int, do func(int)) {
	next := make(chan int)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range next {
				do(i)
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	wg.Wait()
}

// spread tells of durations what is usual and what is bad.
func spread(all []time.Duration) (p50, p99, most time.Duration) {
	all = slices.Clone(all)
	slices.Sort(all)
	at := func(q float64) time.Duration {
		return all[min(int(q*float64(len(all))), len(all)-1)].Round(10 * time.Microsecond)
	}
	return at(0.5), at(0.99), at(1)
}

// closed is what a connection's end looked like to the client.
type closed struct {
	at         time.Time
	disconnect []byte // what was sent before
}

// awaitEnd reads a connection to its end.
func awaitEnd(c net.Conn) closed {
	var last bytes.Buffer
	io.Copy(&last, io.LimitReader(c, 1<<16))
	at := time.Now()
	c.Close()
	return closed{at, last.Bytes()}
}
