package pki

import (
	"fmt"
	"path/filepath"
)

// EncryptKeys encrypts the plain key files of the CA folder dir, also those of a
// next root and of retired ones, with the passphrase of cfg, and returns their paths. Keys that are
// encrypted, or elsewhere, stay as they are. Each file is replaced whole: after
// an error the ones returned are encrypted, the others as before. What was plain
// may still be read from the disk, and from backups.
func EncryptKeys(dir string, cfg Config) ([]string, error) {
	return eachKey(dir, "encrypt", cfg, func(b, phrase []byte) ([]byte, error) {
		if _, ok := keyRef(b); ok || isSealed(b) {
			return nil, nil
		}
		if _, err := ParseKey(b); err != nil {
			return nil, err
		}
		return seal(b, phrase)
	})
}

// DecryptKeys undoes EncryptKeys.
func DecryptKeys(dir string, cfg Config) ([]string, error) {
	return eachKey(dir, "decrypt", cfg, func(b, phrase []byte) ([]byte, error) {
		if !isSealed(b) {
			return nil, nil
		}
		plain, err := unseal(b, phrase)
		if err == nil {
			_, err = ParseKey(plain)
		}
		return plain, err
	})
}

// eachKey replaces the key files for which change returns something else.
func eachKey(dir, what string, cfg Config, change func(b, phrase []byte) ([]byte, error)) (done []string, err error) {
	if err := CheckSecret(dir); err != nil {
		return nil, err
	}
	if cfg.Keys.Passphrase == nil {
		return nil, &hinted{err: fmt.Errorf("%s keys of %s: no passphrase", what, dir), hint: "give the passphrase by environment, file or prompt"}
	}
	retired, err := filepath.Glob(filepath.Join(dir, "retired-*"))
	if err != nil {
		return nil, err
	}
	for _, in := range append([]string{dir, filepath.Join(dir, nextName)}, retired...) {
		for _, name := range []string{rootName, brokerName, deviceName} {
			path := filepath.Join(in, name+".key")
			b, err := readSecret(path)
			if missing(err) {
				continue
			}
			if err != nil {
				return done, err
			}
			phrase, err := cfg.Keys.Passphrase(path)
			if err == nil {
				b, err = change(b, phrase)
			}
			if err != nil {
				return done, fmt.Errorf("%s %s: %w", what, path, err)
			}
			if b == nil {
				continue
			}
			if err := writeAtomic(path, b, 0o600); err != nil {
				return done, err
			}
			done = append(done, path)
			clear(b)
		}
	}
	return done, nil
}
