package password

import (
	"bytes"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

const (
	maxSize   = 64 << 20 // bytes of a file
	maxLine   = 1024     // bytes
	maxUser   = 256      // bytes
	maxErrors = 20       // of a file that are shown
)

// File is a password file: a line USER:HASH for each user. Empty lines and lines that begin with # are kept as they are.
// It is not safe for changes while others use it.
type File struct {
	lines []line
	users map[string]int // to the line
	order []int          // lines with a user
	seed  maphash.Seed
}

type line struct {
	text string // of one without a user
	user string
	hash *hash
}

// User is one of a file.
type User struct {
	Name   string
	Scheme Scheme
}

// New is an empty file.
func New() *File { return &File{users: map[string]int{}, seed: maphash.MakeSeed()} }

// hinted is an error with advice.
type hinted struct {
	error
	hint string
}

func (e *hinted) Unwrap() error { return e.error }
func (e *hinted) Hint() string  { return e.hint }

// Load reads a password file of at most 64 MiB. It is refused when others than its owner may read it, or when any line
// is bad: a user that is dropped silently would be a surprise, and one that is misread a hole. The error names each bad
// line, up to 20 of them, and shows no hash. One about its mode has a Hint.
func Load(path string) (*File, error) {
	text, err := readFile(path)
	if err != nil {
		return nil, err
	}
	return Parse(path, text)
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("load passwords: %w", err)
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("load passwords: %w", err)
	}
	if !fi.Mode().IsRegular() {
		return nil, fmt.Errorf("load passwords: %s is no regular file", path)
	}
	if openToOthers(fi) {
		return nil, &hinted{
			fmt.Errorf("load passwords: %s is open to others (mode %04o)", path, fi.Mode().Perm()), "chmod 600 " + path}
	}
	text, err := io.ReadAll(io.LimitReader(f, maxSize+1))
	if err != nil {
		return nil, fmt.Errorf("load passwords: %w", err)
	}
	return text, nil
}

// Parse reads the text of a password file; name is for its errors.
func Parse(name string, text []byte) (*File, error) {
	if len(text) > maxSize {
		return nil, fmt.Errorf("load passwords: %s has more than %d bytes", name, maxSize)
	}
	f := New()
	var errs []error
	bad := 0
	n := 0
	for raw := range bytes.Lines(text) {
		n++
		l, err := parseLine(raw)
		if err == nil && l.hash != nil {
			if first, ok := f.users[l.user]; ok {
				err = fmt.Errorf("this user is in line %d already", first+1)
			}
		}
		if err != nil {
			if bad++; bad <= maxErrors {
				errs = append(errs, fmt.Errorf("%s:%d: %w", name, n, err))
			}
			l = line{}
		}
		f.add(l)
	}
	if bad > maxErrors {
		errs = append(errs, fmt.Errorf("%s: %d more bad lines", name, bad-maxErrors))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return f, nil
}

func parseLine(raw []byte) (line, error) {
	if len(raw) > maxLine {
		return line{}, fmt.Errorf("more than %d bytes", maxLine)
	}
	text := strings.TrimRight(string(raw), "\r\n")
	if strings.TrimSpace(text) == "" || text[0] == '#' {
		return line{text: text}, nil
	}
	user, rest, ok := strings.Cut(text, ":")
	if !ok {
		return line{}, errors.New("no colon: want USER:HASH")
	}
	if wrong := usable(user); wrong != "" {
		return line{}, errors.New(wrong)
	}
	h, err := parseHash(strings.TrimRight(rest, " \t"))
	if err != nil {
		return line{}, err
	}
	return line{user: user, hash: h}, nil
}

func (f *File) add(l line) {
	if l.hash != nil {
		f.users[l.user] = len(f.lines)
		f.order = append(f.order, len(f.lines))
	}
	f.lines = append(f.lines, l)
}

// Users lists the users in the order of the file.
func (f *File) Users() []User {
	all := make([]User, 0, len(f.order))
	for _, i := range f.order {
		all = append(all, User{f.lines[i].user, f.lines[i].hash.scheme})
	}
	return all
}

// Has reports whether there is such a user.
func (f *File) Has(user string) bool {
	_, ok := f.users[user]
	return ok
}

// Set gives a user, who may be there already, a password of 1 to 1024 bytes. A password for SCRAM has to be UTF-8.
func (f *File) Set(user, password string, s Scheme, c Cost) error {
	if wrong := usable(user); wrong != "" {
		return fmt.Errorf("set password: %s", wrong)
	}
	if password == "" || len(password) > 1024 {
		return fmt.Errorf("set password of %s: want 1 to 1024 bytes", user)
	}
	h, err := newHash([]byte(password), s, c)
	if err == nil {
		h, err = parseHash(h.String()) // within the limits of what is read
	}
	if err != nil {
		return fmt.Errorf("set password of %s: %w", user, err)
	}
	if i, ok := f.users[user]; ok {
		f.lines[i].hash = h
		return nil
	}
	f.add(line{user: user, hash: h})
	return nil
}

// Remove takes a user out, and says whether there was one.
func (f *File) Remove(user string) bool {
	at, ok := f.users[user]
	if !ok {
		return false
	}
	rest := New()
	for i, l := range f.lines {
		if i != at {
			rest.add(l)
		}
	}
	*f = *rest
	return true
}

// Text is the file as Write writes it.
func (f *File) Text() []byte {
	var b bytes.Buffer
	for _, l := range f.lines {
		if l.hash != nil {
			l.text = l.user + ":" + l.hash.String()
		}
		b.WriteString(l.text)
		b.WriteByte('\n')
	}
	return b.Bytes()
}

// Write replaces the file in one step, or leaves it as it was. It keeps the owner, follows links, and is readable by the
// owner alone.
func (f *File) Write(path string) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("write passwords: %w", err)
		}
	}()
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	dir := filepath.Dir(path)
	t, err := os.CreateTemp(dir, "."+filepath.Base(path)+"-") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(t.Name())
	defer t.Close()
	if old, err := os.Stat(path); err == nil {
		if err := keepOwner(t, old); err != nil {
			return err
		}
	}
	if _, err := t.Write(f.Text()); err != nil {
		return err
	}
	if err := t.Sync(); err != nil {
		return err
	}
	if err := t.Close(); err != nil {
		return err
	}
	if err := os.Rename(t.Name(), path); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// lookup finds a user's hash. For a user who is not there it is one of the others, always the same, so that the work that
// follows tells nothing.
func (f *File) lookup(user string) (h *hash, known bool) {
	if i, ok := f.users[user]; ok {
		return f.lines[i].hash, true
	}
	if len(f.order) == 0 {
		c := Cost{}.effective()
		return &hash{scheme: Argon2id, iterations: c.Passes, memory: c.Memory, threads: 1, salt: make([]byte, 16), sum: make([]byte, 32)}, false
	}
	i := f.order[maphash.String(f.seed, user)%uint64(len(f.order))]
	return f.lines[i].hash, false
}

// Verifier is what SCRAM keeps of a password, RFC 5802 section 3.
type Verifier struct {
	Iterations uint32
	Salt       []byte
	StoredKey  []byte
	ServerKey  []byte
}

// Verifier returns that of a user with a $scram-sha-256$ line.
func (f *File) Verifier(user string) (Verifier, bool) {
	i, ok := f.users[user]
	if !ok || f.lines[i].hash.scheme != SCRAM {
		return Verifier{}, false
	}
	h := f.lines[i].hash
	return Verifier{h.iterations, h.salt, h.sum, h.serverKey}, true
}

// Iterations is what most SCRAM users of the file have, for those that it does not know.
func (f *File) Iterations() uint32 {
	count := map[uint32]int{}
	best := Cost{}.effective().Iterations
	for _, i := range f.order {
		if h := f.lines[i].hash; h.scheme == SCRAM {
			count[h.iterations]++
			if n := count[h.iterations]; n > count[best] || n == count[best] && h.iterations < best {
				best = h.iterations
			}
		}
	}
	return best
}
