package testkit

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// Option is one key=value of a "server" or "dial" line; a bare word is a key with an empty value.
type Option struct{ Key, Value string }

// Backend is the server that a conversation is held with.
type Backend interface {
	// Start is called once, with the options of the "server" lines, before the first connection.
	Start(options []Option) error
	// Serve runs one connection until it has ended. options are those of the "dial" line.
	Serve(end *End, client string, options []Option)
	// Command does what a later "server WORD …" line asks for.
	Command(word string, options []Option) error
	// Stop ends the server after all connections were closed.
	Stop()
}

// RunScripts runs every conversation of the folder's .txt files as a subtest, each in a bubble of its own with fake time
// and with its own backend.
func RunScripts(t *testing.T, dir string, backend func(testing.TB) Backend) {
	all, err := ReadScripts(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range all {
		versions := c.Versions
		if versions == nil {
			versions = []string{""}
		}
		for _, v := range versions {
			name := strings.TrimSuffix(c.File[strings.LastIndexAny(c.File, `/\`)+1:], ".txt") + "/" + c.Name
			if v != "" {
				name += "/v" + v
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					r := &run{t: t, conv: c, backend: backend(t), clients: map[string]*client{}, vars: map[string]string{}}
					r.play(v)
				})
			})
		}
	}
}

type run struct {
	t       *testing.T
	conv    *Conversation
	backend Backend
	started bool
	options []Option
	clients map[string]*client
	vars    map[string]string
	log     strings.Builder
	begin   time.Time
	hurry   bool // send without waiting until the server has dealt with what came before
	serving sync.WaitGroup
}

// client is the test's side of one connection.
type client struct {
	r       *run
	name    string
	end     *End
	version int
	queued  []byte // bytes of "name+" lines
	drip    bool
	readers sync.WaitGroup

	mu      sync.Mutex
	cond    *sync.Cond
	stalled bool
	inbox   []*Packet
	eof     bool
	err     error // what the server did wrong
	state   wireState
}

func (r *run) play(version string) {
	r.begin = time.Now()
	defer func() {
		for _, c := range r.clients {
			c.resume()
			c.end.Close()
			c.readers.Wait()
		}
		if r.started {
			r.backend.Stop()
		}
		r.serving.Wait()
	}()
	lines, err := r.conv.unroll(version)
	if err != nil {
		r.t.Fatalf("%s: %v", r.conv.File, err)
	}
	for _, l := range lines {
		if len(l.text) > 300 {
			fmt.Fprintf(&r.log, "%s…\n", l.text[:300])
		} else {
			fmt.Fprintln(&r.log, l.text)
		}
		if err := r.step(l.text); err != nil {
			r.fail(l.n, err)
		}
	}
	synctest.Wait()
	for _, c := range r.clients {
		if err := c.leftover(); err != nil {
			r.fail(lines[len(lines)-1].n, fmt.Errorf("at the end: %w", err))
		}
	}
}

func (r *run) fail(line int, err error) {
	r.t.Helper()
	synctest.Wait()
	for _, c := range r.clients {
		c.mu.Lock()
		for _, p := range c.inbox {
			fmt.Fprintf(&r.log, "    %s has also received: %v\n", c.name, p)
		}
		if c.eof {
			fmt.Fprintf(&r.log, "    %s was closed by the server\n", c.name)
		}
		c.mu.Unlock()
	}
	r.t.Fatalf("%s:%d: %v (after %v)\n%s", r.conv.File, line, err, time.Since(r.begin), r.log.String())
}

func (r *run) step(text string) error {
	args, err := words(text)
	if err != nil {
		return err
	}
	head := args[0].val
	switch {
	case head == "server":
		return r.server(args[1:])
	case head == "sleep":
		d, err := time.ParseDuration(args[1].val)
		if err != nil {
			return err
		}
		synctest.Wait()
		time.Sleep(d)
		synctest.Wait()
		return nil
	case strings.HasSuffix(head, ">") || strings.HasSuffix(head, "+"):
		return r.send(head[:len(head)-1], args[1:], head[len(head)-1] == '>')
	case strings.HasSuffix(head, "<"):
		return r.expect(head[:len(head)-1], args[1:], false)
	case strings.HasSuffix(head, "<?"):
		name := head[:len(head)-2]
		if c := r.clients[name]; c != nil && c.nextIs(args[1:]) {
			return r.expect(name, args[1:], false)
		}
		return nil
	case strings.HasSuffix(head, "<~"):
		return r.expect(head[:len(head)-2], args[1:], true)
	case len(args) >= 2 && args[1].bare:
		return r.control(head, args[1].val, args[2:])
	}
	return fmt.Errorf("what is %q?", text)
}

func asOptions(args []arg) []Option {
	var o []Option
	for _, a := range args {
		if a.bare {
			o = append(o, Option{Key: a.val})
		} else {
			o = append(o, Option{a.key, a.val})
		}
	}
	return o
}

func (r *run) server(args []arg) error {
	if !r.started && len(args) > 0 && !args[0].bare {
		r.options = append(r.options, asOptions(args)...)
		return nil
	}
	if err := r.start(); err != nil {
		return err
	}
	return r.backend.Command(args[0].val, asOptions(args[1:]))
}

func (r *run) start() error {
	if r.started {
		return nil
	}
	r.started = true
	return r.backend.Start(r.options)
}

func (r *run) control(name, verb string, args []arg) error {
	c := r.clients[name]
	if verb == "dial" || verb == "drip" && c == nil {
		var err error
		if c, err = r.dial(name, asOptions(args)); err != nil {
			return err
		}
	}
	if c == nil {
		return fmt.Errorf("%s is not connected", name)
	}
	switch verb {
	case "dial":
	case "close", "drop": // drop does not ask what has arrived
		if verb == "close" {
			synctest.Wait()
			if err := c.leftover(); err != nil {
				return err
			}
		}
		c.resume()
		c.end.Close()
		c.readers.Wait()
		delete(r.clients, name)
		if !r.hurry {
			synctest.Wait()
		}
	case "close_write":
		c.end.CloseWrite()
	case "drip":
		c.drip = true
	case "stall":
		c.mu.Lock()
		c.stalled = true
		c.mu.Unlock()
	case "resume":
		c.resume()
	case "version":
		v, err := strconv.Atoi(args[0].val)
		if err != nil {
			return err
		}
		c.mu.Lock()
		c.version = v
		c.mu.Unlock()
	default:
		return fmt.Errorf("what is %q?", verb)
	}
	return nil
}

func (r *run) dial(name string, o []Option) (*client, error) {
	if err := r.start(); err != nil {
		return nil, err
	}
	if r.clients[name] != nil {
		return nil, fmt.Errorf("%s is connected", name)
	}
	ours, theirs := Pipe(0)
	c := &client{r: r, name: name, end: ours}
	c.cond = sync.NewCond(&c.mu)
	c.state.reset()
	r.clients[name] = c
	r.serving.Go(func() { r.backend.Serve(theirs, name, o) })
	c.readers.Go(c.read)
	return c, nil
}

func (r *run) send(name string, args []arg, flush bool) error {
	c := r.clients[name]
	if c == nil {
		var err error
		if c, err = r.dial(name, nil); err != nil {
			return err
		}
	}
	for i, a := range args {
		if isVar(a.val) && !a.quoted {
			v, ok := r.vars[a.val]
			if !ok {
				return fmt.Errorf("%s is not bound", a.val)
			}
			args[i].val = v
		}
	}
	c.mu.Lock()
	e, err := encode(c.version, args)
	if err == nil {
		if c.version == 0 {
			c.version = e.version
		}
		c.state.sent(e)
	}
	c.mu.Unlock()
	if err != nil {
		return err
	}
	c.queued = append(c.queued, e.bytes...)
	if !flush {
		return nil
	}
	b := c.queued
	c.queued = nil
	c.end.SetWriteDeadline(time.Now().Add(time.Minute))
	step := len(b)
	if c.drip {
		step = 1
	}
	for len(b) > 0 {
		n, err := c.end.Write(b[:step])
		if err != nil {
			if errors.Is(err, errPipeClosed) {
				break // the server has closed: what it said before counts
			}
			return fmt.Errorf("write: %w", err)
		}
		b = b[n:]
		if c.drip {
			synctest.Wait()
		}
	}
	if !r.hurry {
		synctest.Wait()
	}
	return nil
}

func (r *run) expect(name string, args []arg, anyOrder bool) error {
	c := r.clients[name]
	if c == nil {
		return fmt.Errorf("%s is not connected", name)
	}
	synctest.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return c.err
	}
	switch args[0].val {
	case "-":
		if len(c.inbox) > 0 {
			return fmt.Errorf("%s has received %v", name, c.inbox[0])
		}
		if c.eof {
			return fmt.Errorf("%s was closed by the server", name)
		}
		return nil
	case "EOF":
		if len(c.inbox) > 0 {
			return fmt.Errorf("%s has received %v", name, c.inbox[0])
		}
		if !c.eof {
			return fmt.Errorf("the server has not closed %s", name)
		}
		c.end.Close()
		delete(r.clients, name)
		return nil
	}
	if len(c.inbox) == 0 {
		if c.eof {
			return fmt.Errorf("%s was closed by the server", name)
		}
		return fmt.Errorf("%s has received nothing", name)
	}
	why := ""
	for i, p := range c.inbox {
		w := match(p, args, r.vars)
		if w == "" {
			c.inbox = append(c.inbox[:i:i], c.inbox[i+1:]...)
			return nil
		}
		if i == 0 {
			why = w
		}
		if !anyOrder {
			break
		}
	}
	return fmt.Errorf("%s has received %v: %s", name, c.inbox[0], why)
}

func (c *client) resume() {
	c.mu.Lock()
	c.stalled = false
	c.cond.Broadcast()
	c.mu.Unlock()
}

// nextIs tells whether the next thing that has arrived is what the arguments expect.
func (c *client) nextIs(args []arg) bool {
	synctest.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	if args[0].val == "EOF" {
		return c.eof && len(c.inbox) == 0
	}
	return len(c.inbox) > 0 && match(c.inbox[0], args, maps.Clone(c.r.vars)) == ""
}

// leftover is an error when something arrived that the script did not expect.
func (c *client) leftover() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.err != nil:
		return c.err
	case len(c.inbox) > 0:
		return fmt.Errorf("%s has received %v", c.name, c.inbox[0])
	case c.eof:
		return fmt.Errorf("%s was closed by the server", c.name)
	}
	return nil
}

func (c *client) read() {
	var buf []byte
	for {
		c.mu.Lock()
		for c.stalled {
			c.cond.Wait()
		}
		c.mu.Unlock()
		p, rest, err := readPacket(c.wireVersion, c.end, buf)
		c.mu.Lock()
		if err == nil {
			err = c.state.received(c.version, p)
		}
		if p != nil {
			c.inbox = append(c.inbox, p)
		}
		if err != nil {
			if errors.Is(err, io.EOF) {
				c.eof = true
			} else if c.err == nil {
				c.err = fmt.Errorf("%s: %w", c.name, err)
			}
			c.mu.Unlock()
			io.Copy(io.Discard, readOnly{c.end})
			return
		}
		c.mu.Unlock()
		buf = rest
	}
}

// wireVersion is the version that CONNECT named; 3.1.1 where no CONNECT was sent.
func (c *client) wireVersion() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.version == 0 {
		return 4
	}
	return c.version
}
