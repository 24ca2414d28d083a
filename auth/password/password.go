// Package password authenticates clients by user name and password against a file of hashes, and edits such files. It
// reads the files of Mosquitto ($6$, $7$ and argon2id) and writes argon2id, or what SCRAM needs.
//
//	f, err := password.Load("passwords")
//	a := password.NewAuthenticator(password.Config{}, f)
//	a.Use(other) // after the file has changed
//
// Hashing is work and memory: at most Config.AtOnce passwords are checked at a time, a bounded number waits. A name that
// is not in the file costs as much as one that is. A Source tells when its file has changed. The package starts no goroutine.
package password

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"
	"time"

	"github.com/sealmq/sealmq/auth"
)

// Config says where the users are. Zero fields have their defaults.
type Config struct {
	// File has a line USER:HASH for each user, made by sealmq passwd or mosquitto_passwd. It must be readable by its owner
	// alone, and is read again when it changes.
	File string `toml:"file"`

	// AtOnce is how many passwords are checked at the same time, each with the memory of its hash: 12 MiB if sealmq has made
	// it. 0 leaves one processor to those who are connected: as many as there are, less one, but from 1 to 4.
	AtOnce int `toml:"checks_at_once" min:"0" max:"64"`
}

func (c Config) effective() Config {
	if c.AtOnce == 0 {
		c.AtOnce = min(max(runtime.GOMAXPROCS(0)-1, 1), 4)
	}
	return c
}

// Validate reports every value outside its limits, by its key in the configuration file.
func (c Config) Validate() error {
	if c = c.effective(); c.AtOnce < 1 || c.AtOnce > 64 {
		return fmt.Errorf("checks_at_once: %d is not between 0 and 64", c.AtOnce)
	}
	return nil
}

const (
	queue   = 1024             // clients that wait for their check
	longest = 10 * time.Second // that they do
)

// Authenticator checks the user name and the password of CONNECT. It decides about users that are in its file; of others
// and of clients without both it says auth.ErrUndecided. Principals have the method "password".
type Authenticator struct {
	file  atomic.Pointer[File]
	turns *auth.Turns
}

// NewAuthenticator makes an Authenticator with a file, which must not be changed afterwards.
func NewAuthenticator(c Config, f *File) *Authenticator {
	a := &Authenticator{turns: auth.NewTurns(c.effective().AtOnce, queue)}
	a.Use(f)
	return a
}

// Use replaces the file, which must not be changed afterwards. Who is connected stays.
func (a *Authenticator) Use(f *File) { a.file.Store(f) }

// File is the one in use; it must not be changed.
func (a *Authenticator) File() *File { return a.file.Load() }

// Authenticate implements auth.Authenticator.
func (a *Authenticator) Authenticate(ctx context.Context, c *auth.Credentials) (*auth.Principal, error) {
	if !c.HasUsername || !c.HasPassword {
		return nil, auth.ErrUndecided
	}
	if err := auth.InTheClear(c); err != nil {
		return nil, err
	}
	if len(c.Password) > 1024 {
		return nil, auth.ErrUndecided // a token, whosever
	}
	ctx, cancel := context.WithTimeout(ctx, longest)
	defer cancel()
	if err := a.turns.Take(ctx); err != nil {
		return nil, fmt.Errorf("check password: %w", err)
	}
	defer a.turns.Leave()
	h, known := a.file.Load().lookup(c.Username)
	right := h.matches(c.Password)
	switch {
	case !known:
		return nil, auth.ErrUndecided
	case !right:
		return nil, auth.Wrong()
	}
	return &auth.Principal{Name: strings.Clone(c.Username), Method: "password"}, nil
}
