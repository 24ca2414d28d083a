package main

import (
	"fmt"
	"io"
	"net/url"
	"strings"

	"rsc.io/qr"

	"github.com/sealmq/sealmq/pki"
)

const qrFile = "device.png"

// qrURL is what a provisioning app scans: where the broker is, by which root it is known (the SHA-256 of each that counts,
// in hexadecimal), and what it shall say of itself, an id or a token. Never a private key.
func (a addressFlags) qrURL(roots []string, name, value string) string {
	u := a.URL()
	u.RawQuery = url.Values{"ca": roots, name: {value}}.Encode()
	return u.String()
}

func (s snippet) qrText() (string, error) {
	roots, err := pki.ParseCertificates(s.Bundle.CA)
	if err != nil {
		return "", fmt.Errorf("read the CA: %w", err)
	}
	var prints []string
	for _, r := range roots {
		prints = append(prints, pki.Fingerprint(r))
	}
	return s.address().qrURL(prints, "id", s.ID), nil
}

func (s snippet) qr() ([]byte, error) {
	text, err := s.qrText()
	if err != nil {
		return nil, err
	}
	return qrPNG(text)
}

// qrPNG is a QR code as a picture.
func qrPNG(text string) ([]byte, error) {
	code, err := qr.Encode(text, qr.M)
	if err != nil {
		return nil, fmt.Errorf("make a QR code: %w", err)
	}
	code.Scale = 8
	return code.PNG(), nil
}

// drawQR draws a QR code with half blocks, two dots in a character, black on white whatever the terminal's colours are.
func drawQR(w io.Writer, text string) error {
	code, err := qr.Encode(text, qr.L) // a screen does not get scratched
	if err != nil {
		return fmt.Errorf("make a QR code: %w", err)
	}
	const quiet = 2 // dots around it; four are asked for, two suffice on a screen
	var b strings.Builder
	for y := -quiet; y < code.Size+quiet; y += 2 {
		b.WriteString("\x1b[30;47m")
		for x := -quiet; x < code.Size+quiet; x++ {
			up, down := code.Black(x, y), code.Black(x, y+1)
			switch {
			case up && down:
				b.WriteRune('█')
			case up:
				b.WriteRune('▀')
			case down:
				b.WriteRune('▄')
			default:
				b.WriteByte(' ')
			}
		}
		b.WriteString("\x1b[0m\n")
	}
	_, err = io.WriteString(w, b.String())
	return err
}
