//go:build unix

package control

import (
	"log/slog"
	"testing"

	"github.com/sealmq/sealmq/registry"
)

// BenchmarkDevices lists a fleet over each of the two ways, a device an operation.
func BenchmarkDevices(b *testing.B) {
	for _, way := range []string{"socket", "local"} {
		b.Run(way, func(b *testing.B) {
			f, _ := newFleet(b, slog.New(slog.DiscardHandler))
			c := Local(f)
			if way == "socket" {
				p := &parts{}
				s, err := Serve(Options{Data: f.Data, Broker: testBroker{p}, Store: testStore{p}, Fleet: f})
				if err != nil {
					b.Fatal(err)
				}
				defer s.Close()
				c.Close()
				if c, err = Dial(f.Data); err != nil {
					b.Fatal(err)
				}
			}
			defer c.Close()
			fill(b, f, 10_000)
			b.ReportAllocs()
			b.ResetTimer()
			for n := 0; n < b.N; {
				err := c.Devices(b.Context(), Query{}, func(registry.Device) error { n++; return nil })
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
