package audit

import (
	"fmt"
	"strings"
	"time"

	"github.com/sealmq/sealmq/registry"
)

const (
	// oldest is the age at which a certificate is reported; it begins a day before it is issued.
	oldest = 366 * day
	// afterwards is how long after its revocation a certificate may have been seen: that connection was being closed.
	afterwards = time.Minute

	// The ids of those who are no devices begin so, see registry.ID.
	operators, claims = "operator/", "claim/"
)

func (j *judge) fleet() {
	if j.Devices == nil {
		return
	}
	j.keys = make(map[string]string)
	for d := range j.Devices {
		operator := strings.HasPrefix(d.ID, operators)
		if strings.HasPrefix(d.ID, claims) {
			continue
		}
		if !operator {
			j.report.Devices++
		}
		j.device(&d, operator)
	}
}

// device judges one device, or an operator. d is not kept.
func (j *judge) device(d *registry.Device, operator bool) {
	connects := d.State == registry.Active || d.State == registry.Quarantined
	if connects && !operator && !d.Seen.At.IsZero() {
		j.posture.seen(&d.Seen)
	}
	var last *registry.Certificate // the one that ends last
	for i := range d.Certificates {
		c := &d.Certificates[i]
		if c.State != registry.CertActive {
			if d.Seen.Serial == c.Serial && d.Seen.At.After(c.RevokedAt.Add(afterwards)) {
				j.find(Finding{
					Check: DeviceRevoked, Severity: Critical, Device: d.ID, Serial: c.Serial,
					Text: fmt.Sprintf("connected on %s with a certificate that is %s since %s",
						d.Seen.At.UTC().Format(time.DateOnly), c.State, c.RevokedAt.UTC().Format(time.DateOnly)),
					Fix: exclude(d.ID),
				})
			}
			continue
		}
		if c.NotAfter.After(j.Now) {
			j.report.Certificates++
			j.valid(d, c, connects)
		}
		if last == nil || c.NotAfter.After(last.NotAfter) {
			last = c
		}
	}
	if last == nil || !connects {
		return
	}
	if !operator {
		j.report.Forecast.add(last.NotAfter)
	}
	f := Finding{Device: d.ID, Serial: last.Serial}
	if last.NotAfter.Sub(j.Now) < notice(last.NotBefore, last.NotAfter) {
		f.Check = DeviceExpiring
		f.Severity, f.Text = j.ending("the last certificate", last.NotAfter)
		// Of a fleet, one.
		f.Severity = map[Severity]Severity{Critical: High, High: Medium}[f.Severity]
		f.Fix = renew(d.ID)
		j.find(f)
	} else if j.Now.Sub(last.NotBefore) > oldest {
		f.Check, f.Severity, f.Fix = DeviceAge, Low, renew(d.ID)
		f.Text = fmt.Sprintf("the certificate was issued %s ago", inDays(j.Now.Sub(last.NotBefore)))
		j.find(f)
	}
}

// valid judges an active certificate that has not ended.
func (j *judge) valid(d *registry.Device, c *registry.Certificate, connects bool) {
	if d.State == registry.Revoked {
		j.find(Finding{
			Check: DeviceRevoked, Severity: Medium, Device: d.ID, Serial: c.Serial,
			Text: "the device is revoked, but not its certificate: whoever goes by the revocation list accepts it",
			Fix:  "sealmq device revoke --serial " + c.Serial,
		})
		return
	}
	if ca, ok := j.revoked[c.Issuer]; ok && connects {
		j.find(Finding{
			Check: DeviceCARevoked, Severity: Critical, Device: d.ID, Serial: c.Serial, CA: ca,
			Text: "the certificate comes from a CA that is revoked or retired",
			Fix:  renew(d.ID),
		})
	}
	if c.SPKI == "" {
		return
	}
	if other, ok := j.keys[c.SPKI]; !ok {
		j.keys[c.SPKI] = d.ID
	} else if other != d.ID {
		j.find(Finding{
			Check: DeviceShared, Severity: Critical, Device: d.ID, Serial: c.Serial,
			Text: fmt.Sprintf("the key is also that of %s", other),
			Fix:  fmt.Sprintf("sealmq device revoke --serial %s --reason key-compromise", c.Serial),
		})
	}
}

// renew is the command for another certificate.
func renew(id string) string {
	if name, ok := strings.CutPrefix(id, operators); ok {
		return fmt.Sprintf("sealmq operator add %s --out FOLDER", name)
	}
	return "sealmq device renew " + id
}

// exclude is the command that keeps a holder out.
func exclude(id string) string {
	if name, ok := strings.CutPrefix(id, operators); ok {
		return "sealmq operator revoke " + name
	}
	return "sealmq device disable " + id
}

// notice is how long before its end a certificate is reported: in the last quarter of its life, and not before its last
// 30 days. It should have been renewed after two thirds.
func notice(from, to time.Time) time.Duration { return min(soon, to.Sub(from)/4) }
