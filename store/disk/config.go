package disk

import "fmt"

// Config is how the store on disk is to work. The zero value means the defaults given with each field. It must not be
// modified once it was passed to Open.
type Config struct {
	// Cache is the memory for blocks of the store's files that were read.
	Cache int64 `toml:"cache" unit:"bytes" default:"32MiB" min:"1MiB" max:"1TiB"`

	// WriteBuffer is the memory in which changes gather before they become a sorted file; up to four are in use while the
	// disk cannot follow. What is acknowledged within one is written only to the log.
	WriteBuffer int64 `toml:"write_buffer" unit:"bytes" default:"32MiB" min:"1MiB" max:"1GiB"`

	// MinFree is the free space in the file system below which new messages, sessions and subscriptions are refused until
	// there is more. Below a quarter of it everything is refused.
	MinFree int64 `toml:"min_free" unit:"bytes" default:"256MiB" min:"0" max:"1024TiB" none:"-1"`
}

const (
	defaultCache       = 32 << 20
	defaultWriteBuffer = 32 << 20
)

// Validate names the first key with a value out of its limits.
func (c Config) Validate() error {
	for _, v := range []struct {
		key           string
		val, min, max int64
	}{
		{"cache", c.Cache, 1 << 20, 1 << 40},
		{"write_buffer", c.WriteBuffer, 1 << 20, 1 << 30},
		{"min_free", c.MinFree, -1, 1 << 50},
	} {
		if v.val != 0 && (v.val < v.min || v.val > v.max) {
			return fmt.Errorf("%s: %d is not between %d and %d bytes", v.key, v.val, v.min, v.max)
		}
	}
	return nil
}

func (c Config) withDefaults() Config {
	if c.Cache == 0 {
		c.Cache = defaultCache
	}
	if c.WriteBuffer == 0 {
		c.WriteBuffer = defaultWriteBuffer
	}
	return c
}
