package doctor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/sealmq/sealmq/transport"
)

// maxAddresses bounds how many addresses of a host are tried.
const maxAddresses = 8

// resolve finds the addresses of the host.
func (e *exam) resolve() bool {
	host := e.url.Host
	if a, err := netip.ParseAddr(host); err == nil {
		e.addrs = []netip.Addr{a}
		return true
	}
	lookup := e.o.Lookup
	if lookup == nil {
		lookup = func(ctx context.Context, host string) ([]netip.Addr, error) {
			return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		}
	}
	ctx, cancel := context.WithTimeout(e.ctx, e.phase)
	defer cancel()
	addrs, err := lookup(ctx, host)
	if err != nil || len(addrs) == 0 {
		e.step(judgeLookup(host, err))
		return false
	}
	var names []string
	for _, a := range addrs {
		if a = a.Unmap(); !slices.Contains(e.addrs, a) {
			e.addrs = append(e.addrs, a)
			names = append(names, a.String())
		}
	}
	e.addrs = e.addrs[:min(len(e.addrs), maxAddresses)]
	e.step(pass(StepDNS, "%s is %s", show(host), list(names)))
	return true
}

func judgeLookup(host string, err error) Step {
	var dns *net.DNSError
	switch {
	case errors.As(err, &dns) && dns.IsTimeout, errors.Is(err, context.DeadlineExceeded):
		return fail(StepDNS, transport.CauseTimeout, "dns", fmt.Sprintf("no name server answers about %s", show(host)),
			"check this machine's network and its name servers (/etc/resolv.conf)")
	case err == nil, errors.As(err, &dns) && dns.IsNotFound:
		fix := "check the spelling, or use the broker's address"
		if !strings.Contains(host, ".") {
			fix = "give the whole name (" + show(host) + ".example.org, or " + show(host) + ".local), or use the broker's address"
		}
		return fail(StepDNS, CauseDNS, "", fmt.Sprintf("there is no host %s", show(host)), fix)
	}
	return fail(StepDNS, CauseDNS, "failed", fmt.Sprintf("look up %s: %s", show(host), show(err.Error())), "check this machine's name servers")
}

// reach tries every address, and chooses the first that answers.
func (e *exam) reach() bool {
	var good, bad []netip.Addr
	var first error
	took := time.Duration(0)
	for _, a := range e.addrs {
		began := time.Now()
		conn, err := e.dialTo(a)
		if err != nil {
			if first == nil {
				first = err
			}
			bad = append(bad, a)
			continue
		}
		conn.Close()
		if len(good) == 0 {
			took = time.Since(began)
		}
		good = append(good, a)
	}
	for _, a := range append(slices.Clone(good), bad...) {
		e.report.Addresses = append(e.report.Addresses, a.String())
	}
	if len(good) == 0 {
		s := judgeDial(e.target(e.addrs[0]), first)
		if len(bad) > 1 {
			s.Text += fmt.Sprintf(", nor does any other of %d addresses answer", len(bad))
		}
		e.step(s)
		return false
	}
	e.addr = good[0]
	if len(bad) > 0 {
		s := judgeDial(e.target(bad[0]), first)
		s.Status = Warning
		s.Text += fmt.Sprintf("; %s answers", e.target(e.addr))
		s.Fix = "take the address out of the name's records, or let the broker listen there: clients may try it first"
		e.step(s)
		return true
	}
	e.step(pass(StepTCP, "%s answers in %v", e.target(e.addr), took.Round(100*time.Microsecond)))
	return true
}

func (e *exam) target(a netip.Addr) string {
	return net.JoinHostPort(a.String(), strconv.Itoa(int(e.url.Port)))
}

// authority is host and port of the URL, as a hint names them: certificates are for names.
func (e *exam) authority() string {
	return net.JoinHostPort(e.url.Host, strconv.Itoa(int(e.url.Port)))
}

// dialTo connects for one phase: the connection ends with it, or with ctx.
func (e *exam) dialTo(a netip.Addr) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(e.ctx, e.phase)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", e.target(a))
	if err != nil {
		return nil, err
	}
	conn.SetDeadline(time.Now().Add(e.phase))
	// Who gives up does not wait for the end of the phase.
	stop := context.AfterFunc(e.ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	e.live = &phased{Conn: conn, stop: stop}
	return e.live, nil
}

// renew begins another phase on the connection made last.
func (e *exam) renew() {
	e.live.SetDeadline(time.Now().Add(e.phase))
	if e.ctx.Err() != nil {
		e.live.SetDeadline(time.Unix(1, 0))
	}
}

// phased is a connection whose deadline the end of the examination brings forward.
type phased struct {
	net.Conn
	stop func() bool
}

func (c *phased) Close() error {
	c.stop()
	return c.Conn.Close()
}

// CloseWrite half-closes the stream.
func (c *phased) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

func (e *exam) dial() (net.Conn, error) { return e.dialTo(e.addr) }

func isTimeout(err error) bool {
	var n net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) || errors.As(err, &n) && n.Timeout()
}

func judgeDial(target string, err error) Step {
	switch {
	case errors.Is(err, syscall.ECONNREFUSED), err != nil && strings.Contains(err.Error(), "refused"): // Windows has another number
		return fail(StepTCP, CauseRefused, "", "nothing listens at "+target,
			"start the broker (sealmq serve), or check the port: MQTT with TLS is 8883, without 1883")
	case isTimeout(err), errors.Is(err, syscall.ETIMEDOUT):
		return fail(StepTCP, transport.CauseTimeout, "tcp", target+" does not answer",
			"open the port in the firewalls in between, and check that the address is the broker's")
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return fail(StepTCP, CauseUnreachable, "", "there is no way to "+target, "check this machine's network, VPN and routes")
	case errors.Is(err, syscall.ECONNRESET):
		return fail(StepTCP, CauseHungUp, "reset", target+" resets the connection", "the broker, or something on the way, keeps this address out; on the broker's machine: sealmq gate list, sealmq gate stats")
	case errors.Is(err, context.Canceled):
		return fail(StepTCP, transport.CauseClosed, "", "interrupted", "")
	}
	return fail(StepTCP, CauseUnreachable, "failed", "connect to "+target+": "+show(err.Error()), "check this machine's network")
}
