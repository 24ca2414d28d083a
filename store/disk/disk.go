// Package disk is a store in a folder, on Pebble.
package disk

import _ "github.com/cockroachdb/pebble/v2"
