package registry

import (
	"bytes"
	"context"
	"crypto/x509"
	"fmt"
	"math/big"
	"net/url"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/sealmq/sealmq/store"
)

// fleetLeaf is the certificate of the i-th device of a fleet, as far as Check looks at it.
func fleetLeaf(i int) *x509.Certificate {
	spki := make([]byte, 91) // the size of P-256's
	copy(spki, fmt.Sprint("key ", i))
	return &x509.Certificate{SerialNumber: new(big.Int).Add(new(big.Int).Lsh(big.NewInt(1), 127), big.NewInt(int64(i))), RawSubjectPublicKeyInfo: spki,
		NotBefore: start, NotAfter: start.AddDate(1, 0, 0), URIs: []*url.URL{{Scheme: "urn", Opaque: fmt.Sprintf("mqtts:default:device:pump-%06d", i)}}}
}

// writeFleet writes n devices with a certificate, two groups, an attribute and a last connection each.
func writeFleet(t testing.TB, s Store, n int) {
	t.Helper()
	var last <-chan error
	issuer := [keySize]byte{1}
	var ops []*store.Op
	for i := range n {
		leaf := fleetLeaf(i)
		serial, _ := packSerial(leaf.SerialNumber)
		e := &entry{id: fmt.Sprintf("pump-%06d", i), groups: []string{"pumps", fmt.Sprint("site-", i%50)},
			attributes: []attribute{{"serial_number", fmt.Sprint("SN-", i)}}, state: Active, created: start.UnixMilli(), changed: start.UnixMilli(),
			certs: []cert{{serial: serial, spki: leafHash(leaf), issuer: &issuer, notBefore: leaf.NotBefore.Unix(), notAfter: leaf.NotAfter.Unix(), state: CertActive}}}
		seen := &Seen{At: start, Address: fmt.Sprintf("10.%d.%d.%d:%d", i>>16, i>>8&255, i&255, 40000+i%20000), TLSVersion: "1.3", Group: "X25519MLKEM768",
			CipherSuite: "TLS_AES_128_GCM_SHA256", Serial: serialText(serial), Firmware: fmt.Sprint("1.", i%9)}
		var op *store.Op
		op, last = store.NewRecord(devicePrefix+e.id, appendEntry(nil, e))
		ops = append(ops, op, &store.Op{Kind: store.PutRecord, Record: &store.Record{Key: seenPrefix + e.id, Value: appendSeen(nil, seen, "")}})
		if len(ops) >= 1000 || i == n-1 {
			s.Submit(ops...)
			ops = nil
		}
	}
	if err := <-last; err != nil {
		t.Fatal(err)
	}
}

func leafHash(c *x509.Certificate) [keySize]byte {
	k, _ := parseKey("", KeyID(c))
	return k
}

func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// A fleet is loaded in little time and memory. SEALMQ_FLEET says how large it is.
func TestFleet(t *testing.T) {
	n := 5000
	if v, err := strconv.Atoi(os.Getenv("SEALMQ_FLEET")); err == nil {
		n = v
	}
	fs := vfs.NewMem()
	s := diskStore(t, fs)
	writeFleet(t, s, n)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = diskStore(t, fs)
	defer s.Close()
	began := time.Now()
	r, err := Open(s, Options{})
	if err != nil {
		t.Fatal(err)
	}
	took := time.Since(began)
	defer r.Close()
	each := footprint(t, s) / n
	t.Logf("%d devices: loaded in %v, %d bytes each", n, took, each)
	if each >= 1000 {
		t.Errorf("%d bytes for a device", each)
	}
	if r.Len() != n {
		t.Errorf("%d devices", r.Len())
	}
	for i := 0; i < n; i += 1 + n/1000 {
		if v := r.Check(fleetLeaf(i)); v.Decision != Allow || !v.Known {
			t.Fatalf("device %d: %+v", i, v)
		}
	}
}

// fixed is a store of what another one has, in which nothing moves.
type fixed struct {
	Store
	all []store.Record
}

func (s *fixed) Records(prefix string, fn func(string, []byte) bool) error {
	for _, r := range s.all {
		if strings.HasPrefix(r.Key, prefix) && !fn(r.Key, r.Value) {
			break
		}
	}
	return nil
}

// footprint is how much memory a registry takes; the least of a few measurements, since others use memory too.
func footprint(t *testing.T, s Store) int {
	t.Helper()
	from := &fixed{}
	if err := s.Records("", func(key string, value []byte) bool {
		from.all = append(from.all, store.Record{Key: key, Value: bytes.Clone(value)})
		return true
	}); err != nil {
		t.Fatal(err)
	}
	least := int64(1 << 62)
	for range 3 {
		before := heap()
		r, err := Open(from, Options{})
		if err != nil {
			t.Fatal(err)
		}
		least = min(least, int64(heap())-int64(before))
		runtime.KeepAlive(r)
	}
	runtime.KeepAlive(from)
	return int(least)
}

func BenchmarkCheck(b *testing.B) {
	s := memoryStore(b)
	const n = 100_000
	writeFleet(b, s, n)
	r, err := Open(s, Options{})
	if err != nil {
		b.Fatal(err)
	}
	var leaves []*x509.Certificate
	for i := range 1024 {
		leaves = append(leaves, fleetLeaf(i*97))
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if r.Check(leaves[i%len(leaves)]).Decision != Allow {
			b.Fatal("refused")
		}
	}
}

// BenchmarkRevoke ends 10,000 devices, on a disk in memory.
func BenchmarkRevoke(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		s := diskStore(b, vfs.NewMem())
		writeFleet(b, s, 10_000)
		r, err := Open(s, Options{})
		if err != nil {
			b.Fatal(err)
		}
		ids, _ := r.IDs(Query{})
		b.StartTimer()
		if err := r.Revoke(context.Background(), 1, ids...); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		r.Close()
		s.Close()
		b.StartTimer()
	}
}
