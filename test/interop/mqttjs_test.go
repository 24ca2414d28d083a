package interop

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

func TestMQTTjs(t *testing.T) { matrix(t, &mqttJS{}) }

type mqttJS struct{ *remote }

func (c *mqttJS) start(t *testing.T) (missing string) {
	if missing := missingPrograms("nodejs (18 or later) and npm", "node", "npm"); missing != "" {
		return missing
	}
	modules, err := installMQTTjs(t)
	if err != nil {
		return fmt.Sprintf("%v; needs the npm package mqtt 5.16.0 from the registry or npm's cache", err)
	}
	cmd := exec.Command("node", filepath.Join("testdata", "mqttjs", "client.js"))
	cmd.Env = append(os.Environ(), "NODE_PATH="+modules)
	c.remote = startRemote(t, cmd)
	return ""
}

func (*mqttJS) versions() []version { return []version{v31, v311, v5} }

// installMQTTjs returns the folder of the locked packages. It is kept in the
// user's cache, named after the lock file, and appears there whole or not at all.
func installMQTTjs(t *testing.T) (modules string, err error) {
	const source = "testdata/mqttjs"
	lock, err := os.ReadFile(filepath.Join(source, "package-lock.json"))
	if err != nil {
		return "", err
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	dir := filepath.Join(cache, "sealmq-test", fmt.Sprintf("mqttjs-%x", sha256.Sum256(lock))[:24])
	modules = filepath.Join(dir, "node_modules")
	if _, err := os.Stat(modules); err == nil {
		return modules, nil
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return "", err
	}
	work, err := os.MkdirTemp(filepath.Dir(dir), "installing-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(work)
	for _, name := range []string{"package.json", "package-lock.json"} {
		text, err := os.ReadFile(filepath.Join(source, name))
		if err == nil {
			err = os.WriteFile(filepath.Join(work, name), text, 0o644)
		}
		if err != nil {
			return "", err
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	npm := exec.CommandContext(ctx, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline")
	npm.Dir = work
	npm.WaitDelay = time.Second
	if out, err := npm.CombinedOutput(); err != nil {
		return "", fmt.Errorf("npm ci: %w\n%s", err, out)
	}
	if err := os.Rename(work, dir); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", err
	}
	return modules, nil
}
