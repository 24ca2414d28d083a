package audit

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
)

// manyTakeovers is how often a client identifier may be taken over by devices that have lost their connection.
const manyTakeovers = 10

func (j *judge) broker() {
	b := j.Broker
	j.listeners(b)
	for _, c := range b.ServerCertificates {
		f := Finding{Check: ServerExpiring, Listener: strings.Join(c.Listeners, ", ")}
		names := cut(strings.Join(c.Names, ", "))
		switch near := c.NotAfter.Sub(j.Now) < notice(c.NotBefore, c.NotAfter); {
		case near:
			f.Severity, f.Text = j.ending("the certificate for "+names, c.NotAfter)
			if c.Trouble != "" {
				f.Text += ": " + c.Trouble
			}
		case c.Trouble != "":
			f.Severity, f.Text = Medium, fmt.Sprintf("a newer certificate for %s is not in force: %s", names, c.Trouble)
		default:
			continue
		}
		if f.Fix = "sealmq cert renew"; c.Source == "file" {
			f.Fix = "put its successor into the files that the listener's certificate and key name"
		}
		j.find(f)
	}
	j.policy(b)
	if b.Log.Off {
		j.find(Finding{Check: LoggingDisabled, Severity: Medium, Text: "nothing is logged", Fix: `level = "info" under [log]`})
	} else if b.Log.Level > slog.LevelWarn {
		j.find(Finding{
			Check: LoggingDisabled, Severity: Low, Text: "refused connections are not logged", Fix: `level = "info" under [log]`,
		})
	}
	for _, t := range b.Takeovers {
		if t.Times < manyTakeovers {
			continue
		}
		f := Finding{
			Check: ClientIDs, Severity: High, Device: t.Device, ClientID: t.ClientID,
			Text: fmt.Sprintf("the client identifier %q was taken over %d times within an hour", cut(t.ClientID), t.Times),
			Fix:  "give each client an identifier of its own, and each device a certificate: sealmq device add ID",
		}
		j.find(f)
	}
	for _, s := range b.SeenFrom {
		j.find(Finding{
			Check: DeviceShared, Severity: Critical, Device: s.Device, Serial: s.Serial,
			Text: fmt.Sprintf("the certificate was used from %d addresses at a time: %s", len(s.Addresses), few(s.Addresses)),
			Fix:  fmt.Sprintf("sealmq device revoke --serial %s --reason key-compromise", s.Serial),
		})
	}
	if b.Keys == nil {
		j.skipped[DeviceKeyQuality] = "the keys of clients were not noted"
		return
	}
	for k := range b.Keys {
		j.posture.key(k.Kind)
		if k.Weak == "" {
			continue
		}
		j.find(Finding{
			Check: DeviceKeyQuality, Severity: Critical, Device: k.Device, Serial: k.Serial,
			Text: "the certificate is weak: " + k.Weak,
			Fix:  "sealmq device renew " + k.Device,
		})
	}
}

func (j *judge) policy(b *Broker) {
	for _, p := range b.Policy {
		f := Finding{
			Check: PolicyMistaken, Severity: Low, Text: fmt.Sprintf("%s:%d: %s", p.File, p.Line, p.Text), Fix: p.Fix,
		}
		if p.Broad {
			f.Check, f.Severity = PolicyPermissive, High
		}
		j.find(f)
	}
}

func (j *judge) listeners(b *Broker) {
	for _, l := range b.Listeners {
		f := Finding{Check: ListenerOpen, Listener: l.Name}
		if l.MinTLS != 0 && l.MinTLS < tls.VersionTLS12 {
			f := f
			f.Severity, f.Text, f.Fix = High, "TLS before 1.2 is accepted", "let it begin with TLS 1.2"
			j.find(f)
		}
		if loopback(l.Address) {
			continue
		}
		if l.Plain {
			f := f
			f.Severity, f.Fix = Critical, `leave out tls = false, or let address be "127.0.0.1:1883"`
			f.Text = fmt.Sprintf("everybody on the way to %s can read and change what is sent", l.Address)
			j.find(f)
		}
		if l.Anonymous {
			f.Severity, f.Text, f.Fix = High, "clients connect without proof of who they are", "leave out anonymous = true"
			j.find(f)
		}
	}
}

// loopback tells whether an address is reached from the same machine alone.
func loopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

// cut bounds what a client has chosen.
func cut(s string) string {
	const most = 64
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}

// few are some of many.
func few(all []string) string {
	const most = 5
	if len(all) <= most {
		return strings.Join(all, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(all[:most], ", "), len(all)-most)
}
