package crash

import (
	"fmt"
	"time"
)

// willMaker lets one client after the other connect with a will and vanish. The
// will of a client that is never seen again has to be published, also when the
// broker was killed before its delay had passed.
type willMaker struct {
	client
	number int
}

func (w *willMaker) run() {
	for w.pause(w.between(50, 300)) {
		if w.calm.Load() {
			return
		}
		w.number++
		w.name, w.conns = fmt.Sprintf("w%d", w.number), 0
		m := &message{id: messageID{w.name, 1}, topic: fmt.Sprintf("c/w/%d", w.number%3), qos: byte(1 + w.number%2)}
		line := event{kind: publish, client: w.name, message: m.id, topic: m.topic, qos: m.qos, text: "as a will"}
		w.journal.add(line)
		l, _, ok := w.open(true, true, &will{topic: m.topic, payload: m.payload(), qos: m.qos, delay: byte(w.rng.IntN(3))})
		if !ok {
			continue // the will may or may not be published
		}
		w.link = l
		fate := w.rng.IntN(4)
		if w.lost() {
			fate = 0
		}
		switch fate {
		case 0, 3: // vanishes
			line.kind = alone
			w.cut()
			w.journal.add(line)
		case 1: // says good-bye
			w.leave()
		case 2: // comes back, too late or not
			w.cut()
			if w.link, _, ok = w.open(false, true, nil); ok {
				w.leave()
			}
		}
	}
}

// lost stays connected for a while and reports whether the connection broke.
func (w *willMaker) lost() bool {
	select {
	case <-w.link.in:
		return true
	case <-time.After(w.between(0, 600)):
		return false
	case <-w.done:
		return false
	}
}
