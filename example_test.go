package sealmq_test

import (
	"context"
	"fmt"
	"log"
	"log/slog"
	"os"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/transport"
)

// A broker inside a program: it listens with mutual TLS on a free port, and the
// program takes part in it without a connection.
func Example() {
	dir, err := os.MkdirTemp("", "sealmq")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)

	s, err := sealmq.New(sealmq.Config{
		Data:      dir,
		Listeners: []sealmq.Listener{{Config: transport.Config{Address: "127.0.0.1:0"}}},
	}, sealmq.WithLog(slog.New(slog.DiscardHandler)))
	if err != nil {
		log.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()

	cancel, err := s.Subscribe("plant/+/temperature", func(m sealmq.Message) {
		fmt.Printf("%s = %s\n", m.Topic, m.Payload)
	})
	if err != nil {
		log.Fatal(err)
	}
	defer cancel()
	if _, err := s.Publish(sealmq.Message{Topic: "plant/3/temperature", Payload: []byte("21.5")}); err != nil {
		log.Fatal(err)
	}

	stop()
	if err := <-done; err != nil {
		log.Fatal(err)
	}
	// Output: plant/3/temperature = 21.5
}
