package broker

import (
	"testing"
	"time"
)

// However many owe, the table does not grow, and who owes still is not forgotten for one who owes nothing any more.
func TestDebts(t *testing.T) {
	var d debts
	now := time.Hour
	for i := range uint64(maxDebts) {
		d.keep(i, debt{paid: now - time.Second}, now) // over
	}
	for i := range uint64(100) {
		d.keep(1<<40+i, debt{paid: now + time.Minute}, now)
	}
	if len(d.of) > maxDebts {
		t.Errorf("%d debts", len(d.of))
	}
	for i := range uint64(100) {
		if d.owed(1<<40+i).paid != now+time.Minute {
			t.Fatalf("debt %d is forgotten", i)
		}
	}
	d.keep(1<<40, debt{paidBytes: now + time.Second}, now)
	if got := d.owed(1 << 40); got.paid != now+time.Minute || got.paidBytes != now+time.Second {
		t.Errorf("a smaller debt takes the place of a larger one: %+v", got)
	}
	for i := range uint64(2 * maxDebts) {
		d.keep(1<<50+i, debt{paid: now + time.Minute}, now)
	}
	if len(d.of) > maxDebts {
		t.Errorf("%d debts of those who owe", len(d.of))
	}
}
