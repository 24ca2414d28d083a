package client

import (
	"context"
	"net"
	"strings"
	"testing"

	"github.com/sealmq/sealmq/mqtt"
)

// Text that CONNECT cannot carry is refused before anything is dialled: a packet that cannot be written would leave both
// sides waiting for each other.
func TestValidateText(t *testing.T) {
	long := strings.Repeat("x", 65536)
	for _, test := range []struct {
		name string
		cfg  Config
		want string
	}{
		{"long client id", Config{ClientID: long}, "ClientID has 65536 bytes"},
		{"client id", Config{ClientID: "a\xff"}, "ClientID is not UTF-8"},
		{"user name", Config{Username: "a\x00"}, "Username contains U+0000"},
		{"method", Config{AuthMethod: "\xc0\x80"}, "AuthMethod is not UTF-8"},
		{"long property", Config{User: []UserProperty{{"k", long}}}, "user property value has 65536 bytes"},
		{"property", Config{User: []UserProperty{{"\xff", ""}}}, "user property name is not UTF-8"},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.cfg.Dial = func(context.Context) (net.Conn, error) { return nil, net.ErrClosed }
			test.cfg.Version = mqtt.V5
			if err := test.cfg.Validate(); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}
