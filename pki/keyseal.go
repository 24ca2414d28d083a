package pki

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"filippo.io/age"
	"filippo.io/age/armor"
)

const (
	// sealWork is the logarithm of scrypt's cost: 128 MiB of memory and about
	// half a second, which the smallest machine that runs a broker can afford.
	sealWork    = 17
	minSealWork = 10
	// maxSealWork bounds what a file may ask for: 1 GiB.
	maxSealWork = 20

	ageIntro = "age-encryption.org/v1\n"
)

// isSealed recognizes an age file, as text or binary.
func isSealed(b []byte) bool {
	return bytes.HasPrefix(bytes.TrimLeft(b, " \t\r\n"), []byte(armor.Header)) || bytes.HasPrefix(b, []byte(ageIntro))
}

// sealCost encrypts b with a passphrase, as `age -p -a` does.
func sealCost(b, phrase []byte, work int) ([]byte, error) {
	if err := checkPassphrase(phrase); err != nil {
		return nil, err
	}
	to, err := age.NewScryptRecipient(string(phrase))
	if err != nil {
		return nil, err
	}
	to.SetWorkFactor(work)
	var out bytes.Buffer
	text := armor.NewWriter(&out)
	w, err := age.Encrypt(text, to)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(b); err != nil {
		return nil, err
	}
	if err := errors.Join(w.Close(), text.Close()); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// unseal decrypts an age file with a passphrase.
func unseal(b, phrase []byte) ([]byte, error) { return unsealCost(b, phrase, maxSealWork) }

func unsealCost(b, phrase []byte, maxWork int) ([]byte, error) {
	if len(b) > maxFile {
		return nil, fmt.Errorf("decrypt: longer than %d bytes", maxFile)
	}
	if err := checkPassphrase(phrase); err != nil {
		return nil, err
	}
	who, err := age.NewScryptIdentity(string(phrase))
	if err != nil {
		return nil, err
	}
	who.SetMaxWorkFactor(maxWork)
	var src io.Reader = bytes.NewReader(b)
	if !bytes.HasPrefix(b, []byte(ageIntro)) {
		src = armor.NewReader(src)
	}
	r, err := age.Decrypt(src, who)
	var none *age.NoIdentityMatchError
	if errors.As(err, &none) {
		return nil, errors.New("decrypt: wrong passphrase, or not encrypted with one")
	}
	if err != nil {
		return nil, fmt.Errorf("decrypt: %w", err)
	}
	out, err := io.ReadAll(io.LimitReader(r, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("decrypt: %w", err)
	}
	if len(out) > maxFile {
		return nil, fmt.Errorf("decrypt: longer than %d bytes", maxFile)
	}
	return out, nil
}

func checkPassphrase(phrase []byte) error {
	switch {
	case len(phrase) == 0:
		return errors.New("the passphrase is empty")
	case len(phrase) > maxPassphrase:
		return fmt.Errorf("the passphrase is longer than %d bytes", maxPassphrase)
	}
	return nil
}
