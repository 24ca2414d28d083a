package certs

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/sealmq/sealmq/pki"
)

// listFile is where a list is read from: the file itself, or the copy of a URL's.
func (k *Keeper) listFile(crl string) string {
	if !isURL(crl) {
		return crl
	}
	sum := sha256.Sum256([]byte(crl))
	return filepath.Join(k.o.Data, "crl-cache", hex.EncodeToString(sum[:16])+".crl")
}

// copyName is the form of the names of copies, and of what is left of one that was being written.
var copyName = regexp.MustCompile(`^[0-9a-f]{32}\.crl(\.new)?$`)

// dropCopies deletes the copies of URLs that no listener names any more. The caller holds mu.
func (k *Keeper) dropCopies() {
	if k.o.Data == "" {
		return
	}
	var wanted []string
	for _, w := range k.watch {
		for _, c := range w.spec.CRLs {
			wanted = append(wanted, filepath.Base(k.listFile(c)))
		}
	}
	dir := filepath.Join(k.o.Data, "crl-cache")
	all, _ := os.ReadDir(dir) // there is none before the first copy
	for _, e := range all {
		name := strings.TrimSuffix(e.Name(), ".new")
		if !copyName.MatchString(e.Name()) || slices.Contains(wanted, name) {
			continue
		}
		if err := os.Remove(filepath.Join(dir, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			k.o.Log.Warn("the copy of a revocation list that is not used any more is not deleted", "file", e.Name(), "error", err)
		}
	}
}

func (k *Keeper) listFiles(s *Spec) []string {
	out := make([]string, len(s.CRLs))
	for i, c := range s.CRLs {
		out[i] = k.listFile(c)
	}
	return out
}

// openLists reads the revocation lists of the CAs of files in t. It returns the lists in force when those read
// are the same.
func (k *Keeper) openLists(s *Spec, t *trust, old *material) (*pki.Revocations, error) {
	cfg := pki.RevocationsConfig{Issuers: t.others(), Stale: s.Stale, Now: k.o.Now}
	var copies []string
	for _, c := range s.CRLs {
		path := k.listFile(c)
		if isURL(c) {
			if _, err := os.Stat(path); err != nil {
				continue // has not come yet
			}
			copies = append(copies, path)
		}
		cfg.Files = append(cfg.Files, path)
	}
	l, err := pki.OpenRevocations(cfg)
	if err != nil && len(copies) > 0 {
		// A copy that is damaged, or of a CA that is not trusted any longer, is fetched again.
		cfg.Files = slices.DeleteFunc(cfg.Files, func(path string) bool {
			one := cfg
			one.Files = []string{path}
			_, err := pki.OpenRevocations(one)
			return err != nil && slices.Contains(copies, path)
		})
		l, err = pki.OpenRevocations(cfg)
	}
	if err != nil || old.lists == nil {
		return l, err
	}
	before, after := old.lists.Status(), l.Status()
	if t.sameOthers(old.trust) && sameLists(before, after) {
		return old.lists, nil
	}
	if err := notOlder(before, after); err != nil {
		return nil, err
	}
	// Lists and CAs that are changed together may come one after the other.
	was, is := covered(before, len(old.trust.others())), covered(after, len(t.others()))
	switch {
	case t.sameOthers(old.trust) && is < was:
		return nil, errors.New("the revocation lists cover fewer CAs than before: " + missing(after))
	case is == 0 && was > 0:
		return nil, errors.New("the revocation lists cover none of the new CAs: " + missing(after))
	}
	return l, nil
}

func sameLists(a, b []pki.CRLStatus) bool {
	if len(a) != len(b) {
		return false
	}
	for i, x := range a {
		y := b[i]
		if x.File != y.File || x.Issuer != y.Issuer || x.Number != y.Number || x.Entries != y.Entries || x.Missing != y.Missing ||
			!x.This.Equal(y.This) || !x.Next.Equal(y.Next) {
			return false
		}
	}
	return true
}

// notOlder refuses older lists than those in force, with which somebody could undo a revocation.
func notOlder(before, after []pki.CRLStatus) error {
	type place struct{ file, issuer string }
	newest := func(all []pki.CRLStatus) map[place]time.Time {
		m := map[place]time.Time{}
		for _, s := range all {
			if at := (place{s.File, s.Issuer}); !s.Missing && s.This.After(m[at]) {
				m[at] = s.This
			}
		}
		return m
	}
	fresh := newest(after)
	for at, was := range newest(before) {
		if is, ok := fresh[at]; ok && is.Before(was) {
			return fmt.Errorf("reload revocation list %s: that of %q of %s is older than that in force, of %s",
				at.file, at.issuer, is.UTC().Format(time.RFC3339), was.UTC().Format(time.RFC3339))
		}
	}
	return nil
}

// covered counts the CAs that have a list, of all.
func covered(lists []pki.CRLStatus, all int) int {
	for _, s := range lists {
		if s.Missing && s.File == "" {
			all--
		}
	}
	return all
}

func missing(lists []pki.CRLStatus) string {
	for _, s := range lists {
		if s.Missing && s.File == "" {
			return fmt.Sprintf("that of %q is missing", s.Issuer)
		}
	}
	return "one is missing"
}

// listTroubles are what is wrong with the lists in force.
func (w *watched) listTroubles() []string {
	if w.m.lists == nil {
		return nil
	}
	follows := "its clients are refused"
	if w.spec.Stale == pki.StaleAllow {
		follows = "its clients are let in unchecked"
	}
	var out []string
	for _, s := range w.m.lists.Status() {
		switch {
		case s.Missing && s.File == "" && !w.m.trust.issuesCAs(s.Issuer):
			out = append(out, fmt.Sprintf("there is no revocation list of %q: %s", s.Issuer, follows))
		case s.Stale:
			out = append(out, fmt.Sprintf("the revocation list of %q is out of date since %s: %s", s.Issuer, s.Next.UTC().Format(time.RFC3339), follows))
		}
	}
	return out
}
