package pki

// RenewServer issues the broker's certificate anew, with a new key, whatever
// the present one is like. See Server for further.
func (f *Folder) RenewServer(further ...string) error {
	hosts, err := f.Hosts(further...)
	if err != nil {
		return err
	}
	b, err := f.ca.IssueBroker(hosts)
	if err != nil {
		return err
	}
	certFile, keyFile := f.ServerFiles()
	return writePair(certFile, keyFile, b)
}
