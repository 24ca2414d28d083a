package identity

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sealmq/sealmq/pki"
	"github.com/sealmq/sealmq/registry"
)

// A root takes another's place: devices keep connecting, both CAs' lists are kept, and the old root goes when all devices
// have the new one.
func TestRollover(t *testing.T) {
	b := newBench(t, Config{})
	state := func(want pki.State, changes int64) Status {
		t.Helper()
		st := b.Status()
		if st.State != want || b.changed.Load() != changes {
			t.Errorf("state %s after %d changes, want %s after %d", st.State, b.changed.Load(), want, changes)
		}
		return st
	}
	old := map[string]*x509.Certificate{}
	for i := range 4 {
		id := fmt.Sprint("d", i)
		old[id] = b.device(id)
	}
	b.must(Order{ID: "alice", Kind: pki.Operator, CSR: newCSR(t)})
	b.do(b.reg.Disable(b.ctx, "d3"))
	if st := state(pki.Steady, 0); len(st.Roots) != 1 || !st.Roots[0].Issues || st.Devices != 3 || len(st.Missing) != 0 || len(st.CAs) != 3 {
		t.Errorf("%+v", st)
	}
	if err := b.Switch(b.ctx, false); err == nil {
		t.Error("switched to nothing")
	}
	b.do(b.Announce(b.ctx, pki.Announcement{}))
	st := state(pki.Announced, 1)
	if len(st.Roots) != 2 || st.Roots[1].Issues || st.Roots[1].Seen != 0 || fmt.Sprint(st.Missing) != "[d0 d1 d2]" {
		t.Errorf("%+v", st)
	}
	if log := b.log.take(); !strings.Contains(log, `msg="CA changed" who=alice what=announce state=announced`) {
		t.Error(log)
	}
	print := st.Roots[1].Fingerprint
	var colons []string
	for i := 0; i < len(print); i += 2 {
		colons = append(colons, strings.ToUpper(print[i:i+2]))
	}
	b.SawRoots("d0", []string{st.Roots[0].Fingerprint, print})
	b.SawRoots("d1", []string{"rubbish", strings.Join(colons, ":"), strings.Repeat("0", 64)})
	b.SawRoots("d2", make([]string, 100_000))
	b.SawRoots("unknown", []string{print})
	if st = b.Status(); st.Roots[0].Seen != 1 || st.Roots[1].Seen != 2 || fmt.Sprint(st.Missing) != "[d2]" {
		t.Errorf("%+v", st)
	}
	b.do(b.Switch(b.ctx, false)) // the old root signed the new broker CA
	state(pki.Switched, 2)
	b.do(b.SwitchBack(b.ctx))
	state(pki.Announced, 3)
	b.do(b.Switch(b.ctx, false))
	state(pki.Switched, 4)

	// What it knows outlives a restart.
	b.open(Config{})
	if st = state(pki.Switched, 4); st.Roots[1].Seen != 2 {
		t.Errorf("%+v", st)
	}
	for id, leaf := range old {
		if _, err := b.Admit(leaf); (err == nil) == (id == "d3") {
			t.Errorf("%s: %v", id, err)
		}
	}
	if err := b.Retire(b.ctx, false); !errors.Is(err, pki.ErrNotSeen) || !strings.Contains(err.Error(), "2 of 3") {
		t.Error(err)
	}
	state(pki.Switched, 4)

	// A device that connects with a certificate of the new CA has its root.
	fresh := b.device("d2")
	if fresh.CheckSignatureFrom(b.CA().DeviceCAs()[0]) != nil {
		t.Error("not of the new CA")
	}
	b.Saw(fresh, registry.Seen{})
	if st = b.Status(); st.Roots[1].Seen != 3 || st.Renewed != 1 || fmt.Sprint(st.Missing) != "[d0 d1]" {
		t.Errorf("%+v", st)
	}

	// Both CAs have lists.
	b.do(b.reg.Revoke(b.ctx, pki.Unspecified, "d2"))
	b.Settle()
	for i, c := range b.CA().DeviceCAs() {
		name := "device.crl"
		if i > 0 {
			name = listName(c) + ".crl"
		}
		der, err := os.ReadFile(b.file("crl/" + name))
		b.do(err)
		list, err := x509.ParseRevocationList(der)
		b.do(err)
		if err := list.CheckSignatureFrom(c); err != nil || len(list.RevokedCertificateEntries) != 1 {
			t.Errorf("%s: %v, %d entries", name, err, len(list.RevokedCertificateEntries))
		}
	}
	pem, err := os.ReadFile(b.file("crl/device.pem"))
	if err != nil || bytes.Count(pem, []byte("BEGIN X509 CRL")) != 2 {
		t.Error(string(pem), err)
	}

	stands := principal(old["d0"])
	if _, err := b.Stands(stands); err != nil {
		t.Error(err)
	}
	if err := b.Retire(b.ctx, false); !errors.Is(err, pki.ErrNotSeen) || !strings.Contains(err.Error(), "0 of 2 have a certificate of the new one") {
		t.Error(err)
	}
	d, _ := b.reg.Get("d0")
	if !b.Outgoing(d.Certificates[0].Issuer) {
		t.Error("a certificate of the old CA is good for its life")
	}
	b.device("d0")
	b.device("d1")
	if d, _ = b.reg.Get("d0"); b.Outgoing(d.Certificates[0].Issuer) {
		t.Error("a certificate of the new CA is to be renewed")
	}
	b.do(b.Retire(b.ctx, false))
	st = state(pki.Steady, 5)
	if len(st.Roots) != 1 || st.Roots[0].Fingerprint != print {
		t.Errorf("%+v", st)
	}
	_, err = b.Stands(stands)
	refused(t, "of a retired CA", err, 0x98, "trusted no longer")
	b.open(Config{})
	_, err = b.Admit(old["d0"])
	refused(t, "of a retired CA", err, 0x87, "trusted no longer")
	b.Settle()
	if files, err := os.ReadDir(b.file("crl")); len(files) != 2 {
		t.Error(files, err)
	}
}

// What the next root's CA has issued is refused when that root is withdrawn.
func TestWithdraw(t *testing.T) {
	b := newBench(t, Config{})
	b.do(b.Announce(b.ctx, pki.Announcement{}))
	b.do(b.Switch(b.ctx, false))
	leaf := b.device("d")
	b.do(b.SwitchBack(b.ctx))
	if _, err := b.Admit(leaf); err != nil {
		t.Error(err)
	}
	b.do(b.Withdraw(b.ctx))
	_, err := b.Admit(leaf)
	refused(t, "withdrawn", err, 0x87, "trusted no longer")
	if st := b.Status(); st.State != pki.Steady || len(st.Roots) != 1 {
		t.Errorf("%+v", st)
	}
	if b.device("d").CheckSignatureFrom(b.CA().DeviceCAs()[0]) != nil {
		t.Error("not of the CA in force")
	}
}

// Certificates are issued, and only registered ones, while the CA changes again and again.
func TestIssueDuringRollover(t *testing.T) {
	b := newBench(t, Config{})
	b.run()
	ctx, cancel := context.WithCancel(b.ctx)
	var all sync.WaitGroup
	for i := range 2 {
		all.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				id := fmt.Sprintf("d-%d-%d", i, n)
				got, err := b.Issue(b.ctx, Order{ID: id, CSR: newCSR(t)})
				if err != nil {
					t.Error(err)
					return
				}
				d, _ := b.reg.Get(id)
				if len(d.Certificates) != 1 || d.Certificates[0].Serial != serialOf(got.Leaf.SerialNumber) {
					t.Errorf("%+v", d)
				}
			}
		})
	}
	for range 2 {
		for _, step := range []func() error{
			func() error { return b.Announce(b.ctx, pki.Announcement{}) },
			func() error { return b.Switch(b.ctx, false) },
			func() error { return b.SwitchBack(b.ctx) },
			func() error { return b.Switch(b.ctx, false) },
			func() error { return b.Retire(b.ctx, true) },
		} {
			b.do(step())
		}
	}
	cancel()
	all.Wait()
	if b.changed.Load() != 10 {
		t.Error(b.changed.Load())
	}
}

// The issuing CAs are renewed by CSR, and their keys encrypted and decrypted, without a restart.
func TestFolderChanges(t *testing.T) {
	b := newBench(t, Config{})
	csr, err := b.IssuingCSR("device")
	b.do(err)
	request, err := pki.ParseCSR(csr)
	b.do(err)
	b.advance(time.Hour)
	root, err := pki.LoadRoot(b.file("ca/root.pem"), b.file("ca/root.key"), pki.KeyOptions{})
	b.do(err)
	cert, err := pki.SignIssuing(root, "device", request, pki.Config{Now: b.now})
	b.do(err)
	b.do(b.Accept(b.ctx, []*x509.Certificate{cert}))
	if !b.CA().DeviceCAs()[0].Equal(cert) || b.changed.Load() != 1 {
		t.Error("it is not in force")
	}
	b.device("d")
	if err := b.Accept(b.ctx, []*x509.Certificate{b.CA().BrokerCAs()[0], cert, cert}); err == nil || b.changed.Load() != 1 {
		t.Error(err, b.changed.Load())
	}
	b.open(Config{})
	b.device("f")
}
