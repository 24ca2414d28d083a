package pki

import (
	"errors"
	"fmt"
	"path/filepath"
)

// errAsItIs: a key file is as it shall be.
var errAsItIs = errors.New("it is as it shall be")

// sealKeyFile encrypts a plain key file in place with a passphrase.
func sealKeyFile(path string, phrase []byte, work int) error {
	b, err := readSecret(path)
	if err != nil {
		return err
	}
	defer clear(b)
	if _, ok := keyRef(b); ok || isSealed(b) {
		return errAsItIs
	}
	if _, err := ParseKey(b); err != nil {
		return fmt.Errorf("encrypt %s: %w", path, err)
	}
	sealed, err := sealCost(b, phrase, work)
	if err != nil {
		return fmt.Errorf("encrypt %s: %w", path, err)
	}
	return writeAtomic(path, sealed, 0o600)
}

// unsealKeyFile replaces an encrypted key file by a plain one.
func unsealKeyFile(path string, phrase []byte) error {
	b, err := readSecret(path)
	if err != nil {
		return err
	}
	if !isSealed(b) {
		return errAsItIs
	}
	plain, err := unseal(b, phrase)
	if err != nil {
		return fmt.Errorf("decrypt %s: %w", path, err)
	}
	defer clear(plain)
	if _, err := ParseKey(plain); err != nil {
		return fmt.Errorf("decrypt %s: %w", path, err)
	}
	return writeAtomic(path, plain, 0o600)
}

// EncryptKeys encrypts the plain key files of the CA folder dir, also those of a
// next root and of retired ones, with the passphrase of cfg, and returns their
// paths. Keys that are encrypted, or elsewhere, stay as they are. Each file is
// replaced whole: after an error the ones returned are encrypted, the others as
// before. What was plain may still be read from the disk, and from backups.
func EncryptKeys(dir string, cfg Config) ([]string, error) {
	work := cfg.Keys.withDefaults().Work
	return eachKey(dir, "encrypt", cfg, func(path string, phrase []byte) error { return sealKeyFile(path, phrase, work) })
}

// DecryptKeys undoes EncryptKeys.
func DecryptKeys(dir string, cfg Config) ([]string, error) {
	return eachKey(dir, "decrypt", cfg, unsealKeyFile)
}

// eachKey calls change for the key files of a folder, and returns those that it changed.
func eachKey(dir, what string, cfg Config, change func(path string, phrase []byte) error) (done []string, err error) {
	if err := CheckSecret(dir); err != nil {
		return nil, err
	}
	if cfg.Keys.Passphrase == nil {
		return nil, &hinted{err: fmt.Errorf("%s keys of %s: no passphrase", what, dir), hint: "give the passphrase by environment, file or prompt"}
	}
	phrase, err := cfg.Keys.Passphrase(dir)
	if err != nil {
		return nil, fmt.Errorf("%s keys of %s: passphrase: %w", what, dir, err)
	}
	retired, err := retiredDirs(dir)
	if err != nil {
		return nil, err
	}
	for _, in := range append([]string{dir, filepath.Join(dir, nextName)}, retired...) {
		for _, name := range []string{rootName, brokerName, deviceName} {
			path := filepath.Join(in, name+".key")
			if !exists(path) {
				continue
			}
			switch err := change(path, phrase); {
			case err == nil:
				done = append(done, path)
			case !errors.Is(err, errAsItIs):
				return done, err
			}
		}
	}
	return done, nil
}
