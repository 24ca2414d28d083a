package policy

// Lint x.
func (p *Policy) Lint() []string { return nil }
