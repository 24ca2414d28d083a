package control

import "errors"

var errNotYet = errors.New("not yet")

// Local returns a Client that works on a fleet within this process, for commands while no broker runs. Questions to a
// broker (Health, Stats, Backup, Reload, Kick) are answered with 404. Close ends it; the fleet stays open.
func Local(f *Fleet) *Client { return &Client{} }

// Running tells whether the client asks a running broker.
func (c *Client) Running() bool { return c.data != "" }
