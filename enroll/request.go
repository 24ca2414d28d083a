package enroll

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// enrolRequest is what a device sends to be enrolled, and with the CSR alone to be renewed.
type enrolRequest struct {
	CSR        string            `json:"csr"`
	Token      string            `json:"token"`
	ID         string            `json:"id"`
	Attributes map[string]string `json:"attributes"`
}

// seenRequest says which roots a device has: SHA-256 of the certificates, hex.
type seenRequest struct {
	Roots []string `json:"roots"`
}

const maxSeenRoots = 16

// parse reads a JSON object. Unknown members are ignored; one of another type than wanted is an error.
func parse(payload []byte, v any) error {
	err := json.Unmarshal(payload, v)
	if err == nil {
		return nil
	}
	var wrong *json.UnmarshalTypeError
	var syntax *json.SyntaxError
	switch {
	case errors.As(err, &wrong) && wrong.Field != "":
		return fmt.Errorf("member %s is a %s, not a %s", wrong.Field, wrong.Value, wrong.Type)
	case errors.As(err, &syntax):
		return fmt.Errorf("no JSON: %w at byte %d", err, syntax.Offset)
	}
	return fmt.Errorf("no JSON object: %w", err)
}

func parseEnrol(payload []byte) (q enrolRequest, csr []byte, err error) {
	if err = parse(payload, &q); err != nil {
		return q, nil, err
	}
	if err = checkAttributes(q.Attributes); err != nil {
		return q, nil, err
	}
	csr, err = readCSR(q.CSR)
	return q, csr, err
}

// readCSR takes PEM, its lines also joined by a backslash and an n, or DER in base64.
func readCSR(text string) ([]byte, error) {
	switch {
	case text == "":
		return nil, errors.New("member csr is missing")
	case strings.Contains(text, "-----BEGIN"):
		return []byte(strings.NewReplacer(`\r`, "", `\n`, "\n").Replace(text)), nil
	}
	text = strings.NewReplacer("\r", "", "\n", "", " ", "", "=", "").Replace(text)
	der, err := base64.RawStdEncoding.DecodeString(text)
	if err != nil || len(der) == 0 {
		return nil, errors.New("member csr is neither PEM nor DER in base64")
	}
	return der, nil
}

func parseSeen(payload []byte) ([]string, error) {
	var q seenRequest
	if err := parse(payload, &q); err != nil {
		return nil, err
	}
	if len(q.Roots) == 0 || len(q.Roots) > maxSeenRoots {
		return nil, fmt.Errorf("member roots has %d fingerprints, 1 to %d wanted", len(q.Roots), maxSeenRoots)
	}
	for i, r := range q.Roots {
		r = strings.ToLower(strings.ReplaceAll(r, ":", ""))
		if b, err := hex.DecodeString(r); err != nil || len(b) != 32 {
			return nil, errors.New("member roots has what is no SHA-256 in hex")
		}
		q.Roots[i] = r
	}
	return q.Roots, nil
}
