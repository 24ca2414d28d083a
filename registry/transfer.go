package registry

import (
	"bufio"
	"context"
	"encoding/csv"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/sealmq/sealmq/pki"
)

// Format of an import or export.
type Format string

// The formats. CSV has a line of column names: id, and any of groups (with ; between them), state, note and attr.NAME. An
// export has columns besides, which an import does not look at. A cell that a spreadsheet would take for a formula has
// ' before it. JSONL is a Device a line, with its certificates.
const (
	CSV   Format = "csv"
	JSONL Format = "jsonl"
)

// Limits of an import.
const (
	MaxRows   = 200_000
	maxImport = 256 << 20 // bytes
	maxLine   = 64 << 10  // bytes of JSON
)

// ImportOptions say how to import.
type ImportOptions struct {
	Format Format
	// Update changes devices that exist; without it they are errors. Certificates are added to those that it has, and
	// end if they have ended in the import.
	Update bool
	// Check only looks for errors.
	Check bool
	// Progress, if not nil, is called now and then, and at the end.
	Progress func(done, total int)
}

// RowError is what is wrong with one line.
type RowError struct {
	Line int
	Err  error
}

func (e *RowError) Error() string { return fmt.Sprintf("line %d: %v", e.Line, e.Err) }
func (e *RowError) Unwrap() error { return e.Err }

// row is a device to import. fields says which columns there were; nil: all.
type row struct {
	line   int
	d      Device
	fields map[string]bool
}

func (w *row) has(field string) bool { return w.fields == nil || w.fields[field] }

// Import adds devices. If anything is wrong with what it reads nothing is changed, and the error has every *RowError.
// It returns how many devices were added or changed.
func (r *Registry) Import(ctx context.Context, in io.Reader, o ImportOptions) (n int, err error) {
	bad := func(err error) (int, error) { return n, fmt.Errorf("import devices: %w", err) }
	limited := &io.LimitedReader{R: in, N: maxImport + 1}
	var rows []row
	var errs []error
	switch o.Format {
	case CSV:
		rows, errs = readCSV(limited)
	case JSONL:
		rows, errs = readJSONL(limited)
	default:
		return bad(fmt.Errorf("format %.40q: csv or jsonl wanted", o.Format))
	}
	if limited.N == 0 {
		return bad(fmt.Errorf("more than %d bytes", maxImport))
	}
	errs = append(errs, r.checkRows(rows, o)...)
	if len(errs) > 0 {
		slices.SortStableFunc(errs, func(a, b error) int { return lineOf(a) - lineOf(b) })
		return bad(errors.Join(errs...))
	}
	done := 0
	progress := func() {
		if o.Progress != nil {
			o.Progress(done, len(rows))
		}
	}
	if o.Check {
		done = len(rows)
		progress()
		return 0, nil
	}
	for part := range slices.Chunk(rows, batchMost) {
		progress()
		byID := make(map[string]*row, len(part))
		ids := make([]string, len(part))
		for i := range part {
			ids[i] = part[i].d.ID
			byID[ids[i]] = &part[i]
		}
		unchanged := 0
		if err := r.change(ctx, action{what: "import"}, ids, func(e *entry) error {
			err := r.importRow(e, byID[e.id], o.Update)
			if errors.Is(err, errSame) {
				unchanged++
			}
			return err
		}); err != nil {
			return bad(err)
		}
		done += len(part)
		n += len(part) - unchanged
	}
	progress()
	return n, nil
}

func lineOf(err error) int {
	var e *RowError
	if errors.As(err, &e) {
		return e.Line
	}
	return 0
}

// checkRows returns what is wrong with devices, also in view of those that there are.
func (r *Registry) checkRows(rows []row, o ImportOptions) (errs []error) {
	lines := make(map[string]int, len(rows))
	certs := make(map[[2]string]int)
	for i := range rows {
		w := &rows[i]
		if w.d.State == "" {
			w.d.State = Active
		}
		err := w.d.check()
		if first, ok := lines[w.d.ID]; ok && err == nil {
			err = fmt.Errorf("device %s is on line %d already", w.d.ID, first)
		}
		if err == nil {
			old := r.index.get(w.d.ID)
			switch {
			case old != nil && !old.purged && !o.Update:
				err = fmt.Errorf("device %s: %w", w.d.ID, ErrExists)
			case old != nil && !old.purged && old.state == Revoked && w.has("state") && w.d.State != Revoked:
				err = fmt.Errorf("device %s: %w", w.d.ID, ErrRevoked)
			}
		}
		for j := 0; j < len(w.d.Certificates) && err == nil; j++ {
			u := &w.d.Certificates[j]
			key := [2]string{u.Serial, u.Issuer}
			if first, ok := certs[key]; ok {
				err = fmt.Errorf("certificate %s is on line %d already", u.Serial, first)
			} else {
				certs[key], err = w.line, r.checkCert(w.d.ID, u)
			}
		}
		if err != nil {
			errs = append(errs, &RowError{w.line, err})
			continue
		}
		lines[w.d.ID] = w.line
	}
	return errs
}

// checkCert puts serial and issuer of a certificate into their usual form, and refuses one that is another device's.
func (r *Registry) checkCert(id string, u *Certificate) error {
	c, err := packCert(u, func(k [keySize]byte) *[keySize]byte { return &k })
	if err != nil {
		return err
	}
	u.Serial, u.Issuer = serialText(c.serial), hex.EncodeToString(c.issuer[:])
	return r.checkFree(id, &c)
}

// importRow changes an entry as a row says.
func (r *Registry) importRow(e *entry, w *row, update bool) error {
	now := r.o.Now()
	d := w.d
	if !e.purged {
		if !update {
			return ErrExists
		}
		was := r.full(e)
		for field, take := range map[string]func(){
			"groups": func() { d.Groups = was.Groups }, "state": func() { d.State = was.State }, "note": func() { d.Note = was.Note },
		} {
			if !w.has(field) {
				take()
			}
		}
		if w.fields != nil { // columns that there are not leave attributes as they are
			all := maps.Clone(was.Attributes)
			if all == nil {
				all = make(map[string]string)
			}
			for field := range w.fields {
				if name, ok := strings.CutPrefix(field, attrPrefix); ok {
					if v, ok := d.Attributes[name]; ok {
						all[name] = v
					} else {
						delete(all, name)
					}
				}
			}
			d.Attributes = all
		}
		if e.state == Revoked && d.State != Revoked {
			return ErrRevoked
		}
		if err := d.check(); err != nil {
			return err
		}
		if d.State == was.State && d.Note == was.Note && slices.Equal(d.Groups, was.Groups) && maps.Equal(d.Attributes, was.Attributes) &&
			len(d.Certificates) == 0 {
			return errSame
		}
	} else {
		e.begin(now.UnixMilli())
		if !d.Created.IsZero() && validMilli(d.Created.UnixMilli()) && d.Created.Before(now) {
			e.created = d.Created.UnixMilli()
		}
	}
	e.set(&d)
	for i := range slices.Backward(d.Certificates) { // the oldest first
		if err := r.importCert(e, &d.Certificates[i], now.Unix()); err != nil {
			return err
		}
	}
	if e.state == Revoked {
		e.revokeCerts(CertRevoked, 0, now.Unix(), func(c *cert) bool { return c.state == CertActive })
	}
	return nil
}

func (r *Registry) importCert(e *entry, u *Certificate, now int64) error {
	c, err := packCert(u, func(k [keySize]byte) *[keySize]byte {
		r.seen.Lock()
		defer r.seen.Unlock()
		return r.seen.in.key(k)
	})
	if err != nil {
		return err
	}
	if err := e.addCert(c, now); !errors.Is(err, errSame) {
		return err
	}
	if c.state != CertActive {
		e.revokeCerts(c.state, c.reason, c.revokedAt, func(o *cert) bool { return o.serial == c.serial && o.spki == c.spki && o.state == CertActive })
	}
	return nil
}

const attrPrefix = "attr."

// formula reports whether a spreadsheet might take a cell for more than text.
func formula(b byte) bool { return strings.IndexByte("=+-@\t\r'", b) >= 0 }

func escapeCell(s string) string {
	if s != "" && formula(s[0]) {
		return "'" + s
	}
	return s
}

func unescapeCell(s string) string {
	if len(s) > 1 && s[0] == '\'' && formula(s[1]) {
		return s[1:]
	}
	return s
}

// exported are the columns of an export that an import does not look at.
func exported() []string {
	return []string{"created", "changed", "seen_at", "seen_address", "firmware", "serial", "not_after"}
}

// readCSV reads rows, and what is wrong with lines.
func readCSV(in io.Reader) (rows []row, errs []error) {
	c := csv.NewReader(in)
	c.FieldsPerRecord, c.ReuseRecord = -1, true
	head, err := c.Read()
	if err != nil {
		if errors.Is(err, io.EOF) {
			err = errors.New("no line with the names of columns, such as id,groups")
		}
		return nil, []error{&RowError{1, err}}
	}
	fields := make(map[string]bool)
	var names []string
	head[0] = strings.TrimPrefix(head[0], "\uFEFF") // as spreadsheets write it
	for _, name := range head {
		name = strings.TrimSpace(name)
		if !strings.HasPrefix(name, attrPrefix) { // in names of attributes case matters
			name = strings.ToLower(name)
		}
		if strings.HasPrefix(name, attrPrefix) {
			if err := pki.CheckID(name[len(attrPrefix):]); err != nil {
				errs = append(errs, &RowError{1, fmt.Errorf("column %.80q: a name of 1 to 64 of A-Z a-z 0-9 . _ : - wanted", name)})
			}
		} else if !slices.Contains([]string{"id", "groups", "state", "note"}, name) && !slices.Contains(exported(), name) {
			errs = append(errs, &RowError{1, fmt.Errorf("column %.80q: id, groups, state, note or attr.NAME wanted", name)})
		}
		if fields[name] {
			errs = append(errs, &RowError{1, fmt.Errorf("column %.80q comes twice", name)})
		}
		fields[name] = true
		names = append(names, name)
	}
	if !fields["id"] {
		errs = append(errs, &RowError{1, errors.New("no column id")})
	}
	if len(errs) > 0 {
		return nil, errs
	}
	for {
		cells, err := c.Read()
		if errors.Is(err, io.EOF) {
			return rows, errs
		}
		var bad *csv.ParseError
		if errors.As(err, &bad) {
			return rows, append(errs, &RowError{bad.Line, bad.Err}) // where lines end is not known from here on
		} else if err != nil {
			return rows, append(errs, err)
		}
		line, _ := c.FieldPos(0)
		if len(rows)+len(errs) >= MaxRows {
			return rows, append(errs, &RowError{line, fmt.Errorf("more than %d devices", MaxRows)})
		}
		if len(cells) != len(names) {
			errs = append(errs, &RowError{line, fmt.Errorf("%d columns, %d wanted", len(cells), len(names))})
			continue
		}
		w := row{line: line, fields: fields}
		for i, name := range names {
			w.cell(name, strings.Clone(unescapeCell(cells[i])))
		}
		rows = append(rows, w)
	}
}

func (w *row) cell(name, s string) {
	switch name {
	case "id":
		w.d.ID = strings.TrimSpace(s)
	case "groups":
		for g := range strings.SplitSeq(s, ";") {
			if g = strings.TrimSpace(g); g != "" {
				w.d.Groups = append(w.d.Groups, g)
			}
		}
	case "state":
		w.d.State = State(strings.ToLower(strings.TrimSpace(s)))
	case "note":
		w.d.Note = s
	default:
		if attr, ok := strings.CutPrefix(name, attrPrefix); ok && s != "" {
			if w.d.Attributes == nil {
				w.d.Attributes = make(map[string]string)
			}
			w.d.Attributes[attr] = s
		}
	}
}

// readJSONL reads rows, and what is wrong with lines.
func readJSONL(in io.Reader) (rows []row, errs []error) {
	s := bufio.NewScanner(in)
	s.Buffer(nil, maxLine)
	line := 0
	for s.Scan() {
		line++
		if len(strings.TrimSpace(s.Text())) == 0 {
			continue
		}
		if len(rows)+len(errs) >= MaxRows {
			return rows, append(errs, &RowError{line, fmt.Errorf("more than %d devices", MaxRows)})
		}
		w := row{line: line}
		d := json.NewDecoder(strings.NewReader(s.Text()))
		d.DisallowUnknownFields()
		err := d.Decode(&w.d)
		if err == nil && d.More() {
			err = errors.New("more than one object")
		}
		if err != nil {
			errs = append(errs, &RowError{line, err})
			continue
		}
		rows = append(rows, w)
	}
	if err := s.Err(); err != nil {
		if errors.Is(err, bufio.ErrTooLong) {
			err = &RowError{line + 1, fmt.Errorf("longer than %d bytes", maxLine)}
		}
		errs = append(errs, err)
	}
	return rows, errs
}

// Export writes the devices that a query chooses. Progress may be nil.
func (r *Registry) Export(out io.Writer, format Format, q Query, progress func(done, total int)) error {
	all, err := r.choose(q)
	if err != nil {
		return fmt.Errorf("export devices: %w", err)
	}
	b := bufio.NewWriter(out)
	var write func(*Device) error
	var end func() error
	switch format {
	case CSV:
		write, end = writeCSV(b, all)
	case JSONL:
		enc := json.NewEncoder(b)
		enc.SetEscapeHTML(false)
		write, end = func(d *Device) error { return enc.Encode(d) }, b.Flush
	default:
		return fmt.Errorf("export devices: format %.40q: csv or jsonl wanted", format)
	}
	for i, e := range all {
		if progress != nil && i%batchMost == 0 {
			progress(i, len(all))
		}
		d := r.full(e)
		if err := write(&d); err != nil {
			return fmt.Errorf("export devices: %w", err)
		}
	}
	if err := end(); err != nil {
		return fmt.Errorf("export devices: %w", err)
	}
	if progress != nil {
		progress(len(all), len(all))
	}
	return nil
}

func writeCSV(b *bufio.Writer, all []*entry) (write func(*Device) error, end func() error) {
	names := make(map[string]bool)
	for _, e := range all {
		for _, a := range e.attributes {
			names[a.name] = true
		}
	}
	attrs := slices.Sorted(maps.Keys(names))
	c := csv.NewWriter(b)
	head := []string{"id", "groups", "state", "note"}
	for _, a := range attrs {
		head = append(head, attrPrefix+a)
	}
	headErr := c.Write(append(head, exported()...))
	cells := make([]string, 0, len(head)+len(exported()))
	write = func(d *Device) error {
		cells = append(cells[:0], d.ID, strings.Join(d.Groups, ";"), string(d.State), d.Note)
		for _, a := range attrs {
			cells = append(cells, d.Attributes[a])
		}
		serial, notAfter := "", time.Time{}
		for _, u := range d.Certificates {
			if u.State == CertActive {
				serial, notAfter = u.Serial, u.NotAfter
				break
			}
		}
		cells = append(cells, stamp(d.Created), stamp(d.Changed), stamp(d.Seen.At), d.Seen.Address, d.Seen.Firmware, serial, stamp(notAfter))
		for i := range cells {
			cells[i] = escapeCell(cells[i])
		}
		return c.Write(cells)
	}
	return write, func() error {
		c.Flush()
		return errors.Join(headErr, c.Error(), b.Flush())
	}
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}
