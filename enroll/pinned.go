package enroll

import "github.com/sealmq/sealmq/registry"

// Pinned reports whether a device is known by the key in its maker's certificate.
func (s *Service) Pinned(d *registry.Device) bool { return d.Attributes[attributePinned] != "" }
