package pki

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

const (
	execVersion   = 1
	maxExecAnswer = 64 << 10 // bytes of stdout
	maxExecNoise  = 4 << 10  // bytes of stderr that are kept
	maxExecRuns   = 8        // at once, of one key
)

// execKey signs by running a program: a JSON object on its standard input, one
// on its standard output, exit status 0. It is safe for several goroutines.
type execKey struct {
	argv    []string
	pub     crypto.PublicKey
	pem     string
	timeout time.Duration
	runs    chan struct{}
}

// execRequest is what the program reads.
type execRequest struct {
	Version int    `json:"version"`
	Op      string `json:"op"` // describe, sign
	// The rest is of sign alone.
	PublicKey string `json:"public_key,omitempty"` // PEM, as describe answered
	Algorithm string `json:"algorithm,omitempty"`  // ecdsa, rsa-pkcs1v15
	Hash      string `json:"hash,omitempty"`       // SHA-256, SHA-384, SHA-512
	Digest    []byte `json:"digest,omitempty"`
}

// execAnswer is what it writes. Unknown members are allowed.
type execAnswer struct {
	Error     string `json:"error"`
	PublicKey string `json:"public_key"`
	Signature []byte `json:"signature"`
}

func openExec(ref string, o KeyOptions) (*execKey, error) {
	argv, err := splitWords(strings.TrimPrefix(ref, execPrefix))
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", ref, err)
	}
	if len(argv) == 0 || !filepath.IsAbs(argv[0]) {
		return nil, fmt.Errorf("open %s: the absolute path of a program expected", ref)
	}
	k := &execKey{argv: argv, timeout: o.withDefaults().Timeout, runs: make(chan struct{}, maxExecRuns)}
	answer, err := k.run(execRequest{Version: execVersion, Op: "describe"})
	if err != nil {
		return nil, absent{err}
	}
	if k.pub, err = parsePublicKey([]byte(answer.PublicKey)); err != nil {
		return nil, fmt.Errorf("describe by %s: %w", argv[0], err)
	}
	switch k.pub.(type) {
	case *ecdsa.PublicKey, *rsa.PublicKey:
	default:
		return nil, fmt.Errorf("describe by %s: %T is not supported, only ECDSA and RSA", argv[0], k.pub)
	}
	if err := CheckKey(k.pub); err != nil {
		return nil, fmt.Errorf("describe by %s: %w", argv[0], err)
	}
	der, err := x509.MarshalPKIXPublicKey(k.pub)
	if err != nil {
		return nil, err
	}
	k.pem = string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	return k, nil
}

// Public is the key that describe answered.
func (k *execKey) Public() crypto.PublicKey { return k.pub }

// Sign lets the program sign, and checks what it answers: a signature by
// another key never leaves here.
func (k *execKey) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	hash := opts.HashFunc()
	switch hash {
	case crypto.SHA256, crypto.SHA384, crypto.SHA512:
	default:
		return nil, fmt.Errorf("sign by %s: hash %v is not supported", k.argv[0], hash)
	}
	if len(digest) != hash.Size() {
		return nil, fmt.Errorf("sign by %s: digest of %d bytes for %v", k.argv[0], len(digest), hash)
	}
	if _, pss := opts.(*rsa.PSSOptions); pss {
		return nil, fmt.Errorf("sign by %s: RSA-PSS is not supported", k.argv[0])
	}
	req := execRequest{Version: execVersion, Op: "sign", PublicKey: k.pem, Hash: hash.String(), Digest: digest}
	switch k.pub.(type) {
	case *ecdsa.PublicKey:
		req.Algorithm = "ecdsa"
	case *rsa.PublicKey:
		req.Algorithm = "rsa-pkcs1v15"
	}
	answer, err := k.run(req)
	if err != nil {
		return nil, err
	}
	good := false
	switch pub := k.pub.(type) {
	case *ecdsa.PublicKey:
		good = ecdsa.VerifyASN1(pub, digest, answer.Signature)
	case *rsa.PublicKey:
		good = rsa.VerifyPKCS1v15(pub, hash, digest, answer.Signature) == nil
	}
	if !good {
		return nil, fmt.Errorf("sign by %s: the signature is not by the key that it described", k.argv[0])
	}
	return answer.Signature, nil
}

func (k *execKey) run(req execRequest) (*execAnswer, error) {
	k.runs <- struct{}{}
	defer func() { <-k.runs }()
	in, err := json.Marshal(req)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), k.timeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, k.argv[0], k.argv[1:]...)
	out, noise := &limited{max: maxExecAnswer}, &limited{max: maxExecNoise}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(append(in, '\n')), out, noise
	cmd.Env = execEnv(os.Environ())
	cmd.WaitDelay = time.Second // for pipes that a child of the program keeps open
	killGroup(cmd)
	err = cmd.Run()
	if ctx.Err() != nil {
		return nil, fmt.Errorf("%s by %s: no answer within %v%s", req.Op, k.argv[0], k.timeout, noise.note())
	}
	// A program that answers without reading the request breaks the pipe to it.
	if errors.Is(err, exec.ErrWaitDelay) || cmd.ProcessState != nil && cmd.ProcessState.Success() {
		err = nil
	}
	answer, parseErr := parseExecAnswer(out)
	switch {
	case parseErr == nil && answer.Error != "":
		return nil, fmt.Errorf("%s by %s: it says %q", req.Op, k.argv[0], cut(answer.Error, 200))
	case err != nil:
		return nil, fmt.Errorf("%s by %s: %w%s", req.Op, k.argv[0], err, noise.note())
	case parseErr != nil:
		return nil, fmt.Errorf("%s by %s: %w%s", req.Op, k.argv[0], parseErr, noise.note())
	}
	return answer, nil
}

func parseExecAnswer(out *limited) (*execAnswer, error) {
	if out.over {
		return nil, fmt.Errorf("answer longer than %d bytes", out.max)
	}
	answer := new(execAnswer)
	if err := json.Unmarshal(out.b, answer); err != nil {
		return nil, fmt.Errorf("parse answer: %w", err)
	}
	return answer, nil
}

// execEnv is what the program sees: the broker's environment without its own
// settings, of which the passphrase of other keys may be one.
func execEnv(env []string) []string {
	var out []string
	for _, v := range env {
		if !strings.HasPrefix(v, "SEALMQ_") {
			out = append(out, v)
		}
	}
	return out
}

// limited keeps the first max bytes and swallows the rest, so that the program
// is not held up by what nobody reads.
type limited struct {
	b    []byte
	max  int
	over bool
}

func (l *limited) Write(b []byte) (int, error) {
	n := min(len(b), l.max-len(l.b))
	l.b = append(l.b, b[:n]...)
	l.over = l.over || n < len(b)
	return len(b), nil
}

// note is the last line of what the program wrote to its standard error.
func (l *limited) note() string {
	s := strings.TrimSpace(string(l.b))
	if s == "" {
		return ""
	}
	return fmt.Sprintf(": %q", cut(s[strings.LastIndexByte(s, '\n')+1:], 200))
}

func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return s[:n] + "…"
}

// parsePublicKey reads one PUBLIC KEY block.
func parsePublicKey(b []byte) (crypto.PublicKey, error) {
	block, rest := pem.Decode(b)
	if block == nil || block.Type != "PUBLIC KEY" || len(bytes.TrimSpace(rest)) > 0 {
		return nil, errors.New("parse public key: one PUBLIC KEY block expected")
	}
	pub, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("parse public key: %w", err)
	}
	return pub, nil
}

// splitWords splits a command line at blanks. '...' and "..." keep blanks, \
// keeps the next byte outside '...'; nothing is expanded.
func splitWords(s string) ([]string, error) {
	var (
		words []string
		word  []byte
		open  bool // a word has begun
		quote byte
	)
	if strings.ContainsAny(s, "\x00\r\n") {
		return nil, errors.New("split command: a line break or NUL")
	}
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c == '\\' && quote != '\'':
			if i++; i == len(s) {
				return nil, errors.New(`split command: \ at the end`)
			}
			word, open = append(word, s[i]), true
		case quote != 0:
			if c == quote {
				quote = 0
				continue
			}
			word = append(word, c)
		case c == '\'' || c == '"':
			quote, open = c, true
		case c == ' ' || c == '\t':
			if open {
				words, word, open = append(words, string(word)), nil, false
			}
		default:
			word, open = append(word, c), true
		}
	}
	if quote != 0 {
		return nil, fmt.Errorf("split command: %c is not closed", quote)
	}
	if open {
		words = append(words, string(word))
	}
	return words, nil
}
