package pki

import (
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
)

// tokenURI is the part of RFC 7512 that names one key.
type tokenURI struct {
	raw       string
	module    string // absolute path of the PKCS#11 library
	token     string // label of the token
	serial    string // its serial number, in place of the label
	object    string // label of the key
	id        string // its CKA_ID, bytes
	pinSource string // file with the PIN
}

// parseTokenURI reads pkcs11:token=T;object=O?module-path=/lib.so. Attributes
// it does not know are an error, so that none is ignored by mistake. A PIN
// inside the URI is refused: it would be shown wherever the URI is.
func parseTokenURI(s string) (*tokenURI, error) {
	bad := func(why string) error { return fmt.Errorf("parse PKCS#11 URI: %s", why) }
	rest, ok := strings.CutPrefix(s, pkcs11Prefix)
	if !ok || len(s) > maxKeyRef {
		return nil, bad("it does not begin with pkcs11:, or is too long")
	}
	u := &tokenURI{raw: s}
	seen := map[string]bool{}
	path, query, _ := strings.Cut(rest, "?")
	for _, part := range []struct{ text, sep string }{{path, ";"}, {query, "&"}} {
		if part.text == "" {
			continue
		}
		for attr := range strings.SplitSeq(part.text, part.sep) {
			name, value, ok := strings.Cut(attr, "=")
			if !ok || seen[name] {
				return nil, bad(fmt.Sprintf("attribute %q has no value or comes twice", name))
			}
			seen[name] = true
			v, err := url.PathUnescape(value)
			if err != nil || v == "" || strings.ContainsRune(v, 0) && name != "id" {
				return nil, bad(fmt.Sprintf("value of %q", name))
			}
			switch part.sep + name {
			case ";token":
				u.token = v
			case ";serial":
				u.serial = v
			case ";object":
				u.object = v
			case ";id":
				u.id = v
			case ";type":
				if v != "private" {
					return nil, bad("type must be private")
				}
			case "&module-path":
				u.module = v
			case "&pin-source":
				u.pinSource = strings.TrimPrefix(v, "file:")
			case "&pin-value":
				return nil, bad("a PIN inside it; name a file with pin-source instead")
			default:
				return nil, bad(fmt.Sprintf("unknown attribute %q", name))
			}
		}
	}
	switch {
	case (u.token == "") == (u.serial == ""):
		return nil, bad("one of token and serial is needed")
	case u.object == "" && u.id == "":
		return nil, bad("object or id is needed")
	case !filepath.IsAbs(u.module):
		return nil, bad("module-path is needed, an absolute path")
	case u.pinSource != "" && !filepath.IsAbs(u.pinSource):
		return nil, bad("pin-source is no absolute path")
	}
	return u, nil
}
