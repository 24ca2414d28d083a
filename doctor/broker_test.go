package doctor_test

import (
	"context"
	"log/slog"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/doctor"
	"github.com/sealmq/sealmq/pki"
	"github.com/sealmq/sealmq/transport"
)

// TestBroker examines SealMQ itself.
func TestBroker(t *testing.T) {
	listener := func(name string, plain, ws bool) sealmq.Listener {
		return sealmq.Listener{Config: transport.Config{Name: name, Address: "127.0.0.1:0", Plain: plain, WebSocket: ws}, Anonymous: plain}
	}
	dir := t.TempDir()
	s, err := sealmq.New(sealmq.Config{
		Data:      filepath.Join(dir, "data"),
		Listeners: []sealmq.Listener{listener("tls", false, false), listener("wss", false, true), listener("tcp", true, false), listener("ws", true, true)},
	}, sealmq.WithLog(slog.New(slog.DiscardHandler)))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Listen(); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	ca, _, _ := s.Folder().OperatorFiles()
	device, err := s.Folder().IssueDevice("pump-17", "")
	if err != nil {
		t.Fatal(err)
	}
	if err := device.Write(filepath.Join(dir, "pump-17")); err != nil {
		t.Fatal(err)
	}
	strange, err := pki.Create(filepath.Join(dir, "strange"), pki.Config{})
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := strange.IssueClient(pki.Device, "pump-17", "")
	if err != nil {
		t.Fatal(err)
	}
	if err := stranger.Write(filepath.Join(dir, "stranger")); err != nil {
		t.Fatal(err)
	}
	as := func(name string) doctor.Options {
		return doctor.Options{CAFile: ca, Cert: filepath.Join(dir, name, "cert.pem"), Key: filepath.Join(dir, name, "key.pem")}
	}
	for _, tt := range []struct {
		name, scheme, host, listener string
		o                            doctor.Options
		cause                        transport.Cause
		last                         string // step
	}{
		{"device", "mqtts", "localhost", "tls", as("pump-17"), "", doctor.StepLimits},
		{"device by address", "mqtts", "127.0.0.1", "tls", as("pump-17"), "", doctor.StepLimits},
		{"device over WebSocket", "wss", "localhost", "wss", as("pump-17"), "", doctor.StepLimits},
		{"in the clear", "mqtt", "localhost", "tcp", doctor.Options{}, "", doctor.StepLimits},
		{"WebSocket in the clear", "ws", "localhost", "ws", doctor.Options{}, "", doctor.StepLimits},
		{"no certificate", "mqtts", "localhost", "tls", doctor.Options{CAFile: ca}, transport.CauseNoClientCert, doctor.StepClientCert},
		{"no certificate over WebSocket", "wss", "localhost", "wss", doctor.Options{CAFile: ca}, transport.CauseNoClientCert, doctor.StepClientCert},
		{"certificate of another broker", "mqtts", "localhost", "tls", as("stranger"), transport.CauseClientUnknownCA, doctor.StepClientCert},
		{"CA of another broker", "mqtts", "localhost", "tls", doctor.Options{CAFile: filepath.Join(dir, "stranger", "ca.pem")}, transport.CauseRejectsCA, doctor.StepALPN},
		{"other name", "mqtts", "127.0.0.9", "tls", as("pump-17"), doctor.CauseRefused, doctor.StepTCP},
		{"MQTT to WebSocket", "mqtts", "localhost", "wss", as("pump-17"), transport.CauseMQTTOnWebSocket, doctor.StepConnect},
		{"WebSocket to MQTT", "wss", "localhost", "tls", as("pump-17"), doctor.CauseNoWebSocket, doctor.StepWebSocket},
		{"in the clear to TLS", "mqtt", "localhost", "tls", doctor.Options{}, transport.CausePlainMQTT, doctor.StepConnect},
		{"TLS to a plain listener", "mqtts", "localhost", "tcp", as("pump-17"), transport.CauseTLSOnPlain, doctor.StepTLS},
		{"TLS to a plain WebSocket", "wss", "localhost", "ws", as("pump-17"), transport.CauseTLSOnPlain, doctor.StepTLS},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, port, err := net.SplitHostPort(s.Addr(tt.listener).String())
			if err != nil {
				t.Fatal(err)
			}
			tt.o.URL = tt.scheme + "://" + tt.host + ":" + port
			tt.o.Timeout = time.Minute
			r := doctor.Examine(t.Context(), tt.o)
			if last := r.Steps[len(r.Steps)-1]; r.Cause != tt.cause || last.Name != tt.last {
				j, _ := r.JSON()
				t.Errorf("cause %q, last step %s, want %q, %s\n%s", r.Cause, last.Name, tt.cause, tt.last, j)
			}
			if tt.cause == "" && tt.scheme == "mqtts" && r.TLS.ChainBytes > 2048 {
				t.Errorf("chain of %d bytes", r.TLS.ChainBytes)
			}
		})
	}
}
