package identity

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealmq/sealmq/pki"
	"github.com/sealmq/sealmq/registry"
)

// Without the keys of the CA devices are judged, and the last list is served; what cannot be done is a trouble until the
// keys are there.
func TestWithoutKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, Config{})
		gone, left := b.device("gone"), b.device("left")
		b.do(b.reg.Revoke(b.ctx, pki.KeyCompromise, "gone"))
		b.Settle()
		old, _ := b.CRL()
		key := b.file("ca/device.key")
		b.do(os.Rename(key, key+".away"))
		b.open(Config{})
		b.due(b.ctx)
		if all := strings.Join(b.Trouble(), "\n"); !strings.Contains(all, "certificates and revocation lists are not signed: ") {
			t.Errorf("%q", all)
		}
		if der, _ := b.CRL(); !bytes.Equal(der, old) {
			t.Error("the list that was signed before is not served")
		}
		if _, err := b.Admit(gone); err == nil {
			t.Error("a revoked device is admitted")
		}
		if _, err := b.Admit(left); err != nil {
			t.Error(err)
		}
		b.do(b.reg.Revoke(registry.As(b.ctx, "alice"), pki.KeyCompromise, "left"))
		if _, err := b.Admit(left); err == nil {
			t.Error("a device that was revoked without the keys is admitted")
		}
		if _, err := b.Issue(b.ctx, Order{ID: "new", CSR: newCSR(t)}); !errors.Is(err, pki.ErrNoKey) {
			t.Errorf("%v, want ErrNoKey", err)
		}
		if _, ok := b.reg.Get("new"); ok {
			t.Error("a device without certificate is registered")
		}

		b.do(os.Rename(key+".away", key))
		time.Sleep(time.Minute)
		b.due(b.ctx)
		if all := b.Trouble(); len(all) != 0 {
			t.Errorf("%q", all)
		}
		if got := b.listed(); len(got) != 2 {
			t.Error(got)
		}
		b.device("new")
	})
}

// A list that was written is served only if it is one of the CA, and valid.
func TestSavedLists(t *testing.T) {
	b := newBench(t, Config{})
	b.Settle()
	ca := b.CA().DeviceCAs()[0]
	if b.saved(ca, b.now()) == nil {
		t.Fatal("there is none")
	}
	if b.saved(b.CA().Root(), b.now()) != nil {
		t.Error("it is of another CA")
	}
	if b.saved(ca, b.now().Add(crlLife)) != nil {
		t.Error("it is out of date")
	}
	b.do(os.WriteFile(b.file("crl/device.crl"), []byte("no list"), 0o600))
	if b.saved(ca, b.now()) != nil {
		t.Error("it is none")
	}
}
