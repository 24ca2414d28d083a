package testkit

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// stormLines are what the hostile clients of a storm do; N is a small number.
var stormLines = []string{
	"CONNECT v=5 id=x clean",
	"CONNECT v=4 id=x",
	"CONNECT v=5 id=x session_expiry=30 receive_maximum=2 topic_alias_maximum=2 maximum_packet_size=90",
	"CONNECT v=5 id=y session_expiry=20 will=t will_payload=w will_qos=1 will_delay=5 request_problem_info=0",
	"CONNECT v=3 id=y clean will=t/1 will_payload=w will_retain will_qos=2",
	"CONNECT v=5 id=y clean ka=2 session_expiry=5 will=t will_payload=w",
	"CONNECT v=4 id=z ka=3",
	"CONNECT v=5 id=x session_expiry=1000 receive_maximum=1",
	"SUBSCRIBE id=N t q=2",
	"SUBSCRIBE id=N # q=1 t/+ q=2",
	"SUBSCRIBE id=N $share/g/t q=2",
	"SUBSCRIBE id=N $share/g/t/# q=1 $share/h/t q=0",
	"SUBSCRIBE id=N t/1 q=1 t q=0 +/1 q=2",
	"UNSUBSCRIBE id=N t #",
	"UNSUBSCRIBE id=N $share/g/t t/+",
	"UNSUBSCRIBE id=N $share/g/t/# $share/h/t t/1",
	"PUBLISH t payload=N",
	"PUBLISH t q=1 id=N payload=N",
	"PUBLISH t q=2 id=N payload=N",
	"PUBLISH t q=2 id=N payload=again dup",
	"PUBLISH t/N q=1 id=N retain payload=kept",
	"PUBLISH t/N q=2 id=N retain",
	"PUBLISH t/1 q=1 id=N payload=repeat(x,100)",
	"PUBACK id=N", "PUBREC id=N", "PUBREL id=N", "PUBCOMP id=N",
	"PUBACK id=N", "PUBREC id=N", "PUBREL id=N", "PUBCOMP id=N",
	"PINGREQ",
	"DISCONNECT",
	"hex 30 03 00 01 23", "hex 82 02 00 01", "hex f0 00", "hex 36 00", "hex c0", "hex 30 ff", "hex 62 02 00 00",
}

// stormLines5 are those that need MQTT 5.
var stormLines5 = []string{
	"SUBSCRIBE id=N t q=1 nl rap rh=1 sub_id=N",
	"SUBSCRIBE id=N t/# q=2 rh=2 # q=0 nl sub_id=7",
	"PUBLISH t/2 q=1 id=N payload=x topic_alias=N message_expiry=N user=a:b",
	`PUBLISH "" q=2 id=N payload=y topic_alias=N`,
	"PUBLISH t q=1 id=N retain payload=z message_expiry=2 response_topic=r",
	"PUBACK id=N code=0x80", "PUBREC id=N code=0x97", "PUBREL id=N code=0x92",
	"DISCONNECT code=4", "DISCONNECT code=0 session_expiry=N",
}

// Storm runs three hostile clients, who fight for each other's sessions and send what data says, beside a publisher and
// a subscriber who keep to the rules. It fails when the server breaks a promise to any of them, when the subscriber does
// not get each of the publisher's messages exactly once and in order, or when the server hangs.
func Storm(t *testing.T, backend func(testing.TB) Backend, data []byte) {
	synctest.Test(t, func(t *testing.T) {
		r := &run{t: t, backend: backend(t), clients: map[string]*client{}, vars: map[string]string{}, begin: time.Now()}
		s := &storm{r: r, data: data}
		r.conv = &Conversation{File: "storm"}
		defer func() {
			for _, c := range r.clients {
				c.resume()
				c.end.Close()
				c.readers.Wait()
			}
			r.backend.Stop()
			r.serving.Wait()
		}()
		s.play()
	})
}

type storm struct {
	r        *run
	data     []byte
	sent     int // messages of the publisher
	received int
}

func (s *storm) next() int {
	if len(s.data) == 0 {
		return 0
	}
	b := s.data[0]
	s.data = s.data[1:]
	return int(b)
}

func (s *storm) do(line string) {
	fmt.Fprintln(&s.r.log, line)
	if strings.Contains(line, "> PUB") && !strings.Contains(line, "> PUBLISH") {
		if name, _, _ := strings.Cut(line, ">"); s.r.clients[name] != nil {
			s.r.clients[name].resume()
		}
		s.drain() // an acknowledgement counts from when it is sent, so what it acknowledges must have been read
	}
	s.r.hurry = s.next()%2 == 0
	err := s.r.step(line)
	hurried := s.r.hurry
	s.r.hurry = false
	if err != nil {
		s.r.fail(0, err)
	}
	if !hurried {
		s.drain()
	}
}

func (s *storm) play() {
	for _, l := range []string{
		"good> CONNECT v=5 id=good clean", "good< CONNACK code=0", "good> SUBSCRIBE id=1 good q=2", "good< SUBACK codes=2",
		"pub> CONNECT v=4 id=pub clean", "pub< CONNACK code=0",
	} {
		if err := s.r.step(l); err != nil {
			s.r.fail(0, err)
		}
	}
	for len(s.data) > 0 {
		op, n := s.next(), s.next()
		name := string(rune('a' + op%3))
		c := s.r.clients[name]
		switch op = op / 3; {
		case op < 8:
			s.publish(n % 3)
		case op < 12:
			s.do("sleep " + []string{"1ms", "1s", "4s", "40s"}[n%4])
		case c == nil: // not connected
			if n%9 > 0 {
				s.do(name + "> " + stormLines[n%8])
			}
		case op < 14:
			s.do(name + " drop")
		case op < 16:
			s.do(name + " stall")
		case op < 19:
			s.do(name + " resume")
		default:
			lines := stormLines
			if c.version == 5 && n%3 == 0 {
				lines = stormLines5
			}
			s.do(name + "> " + fill(lines[(op*7+n/8)%len(lines)], 1+n%8))
		}
	}
	s.do("sleep 1s")
	for _, c := range s.r.clients {
		c.resume()
	}
	s.do("sleep 1s")
	s.drain()
	if s.received != s.sent {
		s.r.fail(0, fmt.Errorf("%d messages published, %d received", s.sent, s.received))
	}
	for _, l := range []string{"last> CONNECT v=5 id=last clean", "last< CONNACK code=0", "last> PINGREQ", "last< PINGRESP"} {
		if err := s.r.step(l); err != nil {
			s.r.fail(0, err)
		}
	}
}

func (s *storm) publish(qos int) {
	s.sent++
	id := ""
	if qos > 0 {
		id = fmt.Sprintf(" id=%d", s.sent%65535+1)
	}
	s.do(fmt.Sprintf("pub> PUBLISH good q=%d%s payload=%d", qos, id, s.sent))
}

// fill puts a number in the place of N.
func fill(line string, n int) string {
	w := strings.Fields(line)
	for i := range w {
		if strings.HasSuffix(w[i], "=N") || strings.HasSuffix(w[i], "/N") {
			w[i] = w[i][:len(w[i])-1] + strconv.Itoa(n)
		}
	}
	return strings.Join(w, " ")
}

// drain takes what has arrived. The two good clients answer it; a closed connection is forgotten.
func (s *storm) drain() {
	for again := true; again; {
		again = false
		synctest.Wait()
		for name, c := range s.r.clients {
			c.mu.Lock()
			inbox, eof, err := c.inbox, c.eof, c.err
			c.inbox = nil
			c.mu.Unlock()
			if err != nil {
				s.r.fail(0, err)
			}
			for _, p := range inbox {
				fmt.Fprintf(&s.r.log, "    %s< %v\n", name, p)
				if line := s.answer(name, p); line != "" {
					again = true
					if err := s.r.step(line); err != nil {
						s.r.fail(0, err)
					}
				}
			}
			if !eof {
				continue
			}
			if name == "good" || name == "pub" {
				s.r.fail(0, fmt.Errorf("%s was closed by the server", name))
			}
			c.end.Close()
			delete(s.r.clients, name)
		}
	}
}

func (s *storm) answer(name string, p *Packet) string {
	id := p.Fields.Get("id")
	switch {
	case name == "pub" && p.Kind == "PUBREC":
		return "pub> PUBREL id=" + id
	case name != "good":
		return ""
	case p.Kind == "PUBREL":
		return "good> PUBCOMP id=" + id
	case p.Kind != "PUBLISH":
		return ""
	}
	n, _ := strconv.Atoi(p.Fields.Get("payload"))
	if s.received++; n != s.received || p.Fields.Get("dup") == "1" {
		s.r.fail(0, fmt.Errorf("message %d has arrived in place of %d", n, s.received))
	}
	switch p.Fields.Get("q") {
	case "1":
		return "good> PUBACK id=" + id
	case "2":
		return "good> PUBREC id=" + id
	}
	return ""
}
