package broker_test

import (
	"sync"

	"github.com/sealmq/sealmq/auth"
	"github.com/sealmq/sealmq/broker"
	"github.com/sealmq/sealmq/mqtt"
)

// judge refuses principals by name.
type judge struct {
	mu      sync.Mutex
	refused map[string]bool
}

func (j *judge) set(name string, refused bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.refused[name] = refused
}

func (j *judge) standing(p *auth.Principal) broker.Standing {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.refused[p.Name] {
		return broker.Standing{Refused: mqtt.AdministrativeAction, Text: p.Name + " is revoked"}
	}
	return broker.Standing{}
}
