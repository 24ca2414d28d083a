package sealmq

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/sealmq/sealmq/control"
	"github.com/sealmq/sealmq/pki"
	"github.com/sealmq/sealmq/policy"
)

// PolicyFile is where the policy of a data folder is, unless the configuration names another file.
func PolicyFile(data string) string { return filepath.Join(data, "policy") }

// policyPath is the policy file of a configuration, and whether it is one of Mosquitto.
func policyPath(cfg Config) (file string, mosquitto bool) {
	switch {
	case cfg.ACLFile != "":
		return cfg.ACLFile, true
	case cfg.Policy != "":
		return cfg.Policy, false
	}
	return PolicyFile(cfg.Effective().Data), false
}

// ReadPolicy reads the policy file of a configuration, at most one byte more than policy.MaxSize, and does not look at what
// it says.
func ReadPolicy(cfg Config) (*control.PolicyFile, error) {
	f := &control.PolicyFile{}
	f.Name, f.Mosquitto = policyPath(cfg)
	in, err := os.Open(f.Name)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	text, err := io.ReadAll(io.LimitReader(in, policy.MaxSize+1))
	f.Text = string(text)
	return f, err
}

// LoadPolicy reads the policy of a configuration, compiles it and tests its assertions. The error says all that is wrong.
// Without a data folder, of a server that keeps nothing, it is the one that others begin with.
func LoadPolicy(cfg Config) (*policy.Policy, error) {
	own := cfg.Policy == "" && cfg.ACLFile == ""
	f, err := ReadPolicy(cfg)
	if own && errors.Is(err, fs.ErrNotExist) {
		data := cfg.Effective().Data
		if _, err := os.Stat(data); err == nil {
			return nil, &badPolicy{fmt.Errorf("read policy: %s is missing: who may do what is not known", PolicyFile(data)),
				"restore it from a backup, or begin anew: sealmq acl starter >" + PolicyFile(data)}
		}
		f, err = &control.PolicyFile{Name: PolicyFile(data), Text: policy.Starter()}, nil
	}
	if err != nil {
		err = fmt.Errorf("read policy: %w", err)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, &badPolicy{err, "the configuration names it; make it: " + begin(cfg)}
		}
		return nil, err
	}
	if f.Text == "" {
		return nil, &badPolicy{fmt.Errorf("read policy: %s is empty: nobody could do anything", f.Name), "begin anew: " + begin(cfg)}
	}
	test := "sealmq acl test " + f.Name
	if f.Mosquitto {
		test = "sealmq acl test --mosquitto " + f.Name
	}
	path := f.Name
	f.Name = filepath.Base(path) // clients may be told it
	p, err := f.Compile()
	if err != nil {
		return nil, &badPolicy{fmt.Errorf("read policy %s:\n%w", path, err), test}
	}
	var errs []error
	for _, failure := range p.Test() {
		errs = append(errs, failure)
	}
	if errs != nil {
		return nil, &badPolicy{fmt.Errorf("policy %s: an assertion does not hold:\n%w", path, errors.Join(errs...)), test}
	}
	return p, nil
}

// begin is how the policy file of a configuration is begun.
func begin(cfg Config) string {
	switch {
	case cfg.ACLFile != "":
		return "echo 'topic read news/#' >" + cfg.ACLFile
	case cfg.Policy != "":
		return "sealmq acl starter >" + cfg.Policy
	}
	return "sealmq acl starter >" + PolicyFile(cfg.Effective().Data)
}

// badPolicy is the error of a policy file that cannot be used.
type badPolicy struct {
	error
	hint string
}

func (e *badPolicy) Unwrap() error { return e.error }

// Hint tells what helps.
func (e *badPolicy) Hint() string { return e.hint }

// MakePolicy writes the policy that a data folder begins with, if it has neither one nor a store yet: a folder that has lost its
// policy must not open with another.
func MakePolicy(data string) (made bool, err error) {
	if _, err := os.Lstat(StoreDir(data)); !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	file := PolicyFile(data)
	if _, err := os.Lstat(file); !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	if err := pki.WriteFile(file, []byte(policy.Starter()), 0o600); err != nil {
		return false, fmt.Errorf("write the first policy: %w", err)
	}
	return true, nil
}

// policyFor makes the policy of a data folder whose store is about to be made.
func policyFor(cfg Config, log *slog.Logger) error {
	if cfg.Policy != "" || cfg.ACLFile != "" {
		return nil
	}
	if _, err := os.Stat(cfg.Data); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	made, err := MakePolicy(cfg.Data)
	if made {
		log.Info("policy made: devices have topics of their own, operators everything", "file", PolicyFile(cfg.Data))
	}
	return err
}

// firstPolicy is the policy that a server starts with.
func firstPolicy(cfg Config, log *slog.Logger) (*policy.Policy, error) {
	if err := policyFor(cfg, log); err != nil {
		return nil, err
	}
	return LoadPolicy(cfg)
}
