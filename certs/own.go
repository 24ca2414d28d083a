package certs

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"path/filepath"
	"slices"
	"time"

	"github.com/sealmq/sealmq/pki"
)

// own is what comes from our own CA. Guarded by Keeper.mu; a Set has its own until it is applied.
type own struct {
	folder    *pki.Folder // nil: no listener needs it
	cert      *tls.Certificate
	deviceCAs []*x509.Certificate
	hosts     snapshot // the file of further names
	looked    time.Time
	err       error
}

// ownEvery is the time between two looks at our own certificate: at its age, and at the names of the machine.
const ownEvery = time.Minute

// lookOwn renews what comes from our own CA where it is due. The caller holds mu.
func (k *Keeper) lookOwn(force bool) {
	o := &k.own
	if o.folder == nil {
		return
	}
	now := k.o.Now()
	if force || k.o.Folder() != o.folder || now.Sub(o.looked) >= ownEvery || now.Before(o.looked) || !take(hostsFile(o.folder)).same(o.hosts) {
		o.err = o.load(k, k.hosts)
	}
}

// load reads, or issues, the server's certificate. After an error the old one stays.
func (o *own) load(k *Keeper, hosts []string) error {
	o.looked = k.o.Now()
	var f *pki.Folder
	if k.o.Folder != nil {
		f = k.o.Folder()
	}
	if f == nil {
		return errors.New("there is no CA folder")
	}
	o.folder = f
	o.hosts = take(hostsFile(o.folder))
	o.deviceCAs = o.folder.CA().DeviceCAs()
	cert, issued, err := o.folder.Server(hosts...)
	if err != nil {
		return err
	}
	if issued {
		k.o.Log.Info("server certificate issued", "until", cert.Leaf.NotAfter.Format(time.DateOnly), "names", cert.Leaf.DNSNames)
	}
	if o.cert == nil || !slices.EqualFunc(o.cert.Certificate, cert.Certificate, slices.Equal) {
		o.cert = cert
	}
	return nil
}

func hostsFile(f *pki.Folder) []string { return []string{filepath.Join(f.Path(), "server", "hosts")} }
