package enroll

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/sealmq/sealmq/pki"
	"github.com/sealmq/sealmq/registry"
)

// Whatever devices, operators and restarts do, in whatever order: a claim enrols no more devices than it may, a device that
// has a certificate that stands keeps its name, and none gets one that is not active.
func TestAnyOrder(t *testing.T) {
	b := newBench(t, Config{RequestsPerHour: MaxUses, RenewalsPerHour: 1000})
	round := 0
	rapid.Check(t, func(r *rapid.T) {
		round++
		const uses = 2
		approve := rapid.Bool().Draw(r, "approve")
		tokens := make([]string, 2)
		made := make([]Claim, 2)
		for i := range tokens {
			var err error
			if tokens[i], made[i], err = b.Create(b.ctx, Claim{Uses: uses, Approve: approve && i == 0}); err != nil {
				r.Fatal(err)
			}
		}
		device := func(i int) string { return fmt.Sprintf("r%d-d%d", round, i) }
		firsts := make(map[string]map[string]bool) // by claim: devices that it has enrolled
		devices := rapid.IntRange(0, 2)
		// Every device has a key of each kind of its own: one key is one device's.
		own := make(map[string]key)
		keyOf := func(id string, i int) key {
			name := fmt.Sprintf("%s/%d", id, i)
			if _, ok := own[name]; !ok {
				own[name] = newKey(t)
			}
			return own[name]
		}
		spki := func(k key) string {
			s, err := pki.SPKIOf(&k.PublicKey)
			if err != nil {
				r.Fatal(err)
			}
			return fmt.Sprintf("%x", s[:])
		}
		for range rapid.IntRange(1, 12).Draw(r, "steps") {
			id := device(devices.Draw(r, "device"))
			before, known := b.reg.Get(id)
			switch what := rapid.IntRange(0, 10).Draw(r, "what"); what {
			default: // enrol
				n := rapid.IntRange(0, 1).Draw(r, "claim")
				k := keyOf(id, rapid.IntRange(0, 1).Draw(r, "key"))
				b.t = t
				g := b.enrol(client{id: id}, k, tokens[n])
				if g.Status == "accepted" {
					if known && before.State != registry.Active {
						r.Fatalf("%s is %s and got a certificate", id, before.State)
					}
					had := false
					for _, c := range before.Certificates {
						if c.State == registry.CertActive && c.SPKI != spki(k) && before.Attributes["claim"] != made[n].ID {
							r.Fatalf("%s lost its name", id)
						}
						had = had || c.State == registry.CertActive
					}
					if !had {
						if firsts[made[n].ID] == nil {
							firsts[made[n].ID] = make(map[string]bool)
						}
						firsts[made[n].ID][fmt.Sprint(id, len(before.Certificates))] = true
					}
				}
			case 5:
				if known && before.State != registry.Revoked {
					b.reg.Enable(b.ctx, id)
				}
			case 6:
				b.reg.Disable(b.ctx, id)
			case 7:
				for _, c := range before.Certificates {
					b.reg.RevokeCertificate(b.ctx, c.Serial, pki.Superseded)
				}
			case 8:
				b.t = t
				b.reopen()
			case 10:
				b.reg.Purge(b.ctx, id)
			case 9:
				b.clock.advance(time.Minute)
				b.sweep()
			}
			for _, c := range made {
				now, ok := b.Claim(c.ID)
				if !ok || now.Used > uses || len(firsts[c.ID]) > now.Used {
					r.Fatalf("claim %s was used %d times, and has enrolled %v", c.ID, now.Used, firsts[c.ID])
				}
			}
		}
	})
}
