package sealmq

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/sealmq/sealmq/auth"
	"github.com/sealmq/sealmq/broker"
	"github.com/sealmq/sealmq/certs"
	"github.com/sealmq/sealmq/control"
	"github.com/sealmq/sealmq/enroll"
	"github.com/sealmq/sealmq/identity"
	"github.com/sealmq/sealmq/mqtt"
	"github.com/sealmq/sealmq/pki"
	"github.com/sealmq/sealmq/registry"
	"github.com/sealmq/sealmq/store"
)

// fleet is what knows the devices of our own CA: registry, identities, enrolment.
type fleet struct {
	registry *registry.Registry
	identity *identity.Service
	enroll   *enroll.Service
	watch    func()
}

// newFleet puts the parts together: the folder with how it was opened, and where they keep what they know. changed is called after what is trusted has
// changed.
func newFleet(cfg Config, folder *pki.Folder, opened pki.Config, records registry.Store, log *slog.Logger, changed func()) (*fleet, error) {
	f := &fleet{watch: func() {}}
	var err error
	f.registry, err = registry.Open(records, registry.Options{Log: log, Issuers: folder.CA().DeviceCAs(), Strict: cfg.Devices.Strict})
	if err != nil {
		return nil, err
	}
	f.identity, err = identity.New(identity.Options{
		Config: cfg.Devices, Folder: folder, PKI: opened, Registry: f.registry, Log: log, Changed: changed,
	})
	if err != nil {
		f.registry.Close()
		return nil, err
	}
	f.enroll, err = enroll.New(enroll.Options{
		Config: cfg.Enroll, Identity: f.identity, Registry: f.registry, Store: records, Grace: cfg.Devices.Grace, Log: log, Changed: changed,
	})
	if err != nil {
		f.registry.Close()
		return nil, err
	}
	return f, nil
}

// close comes before the end of the store.
func (f *fleet) close() {
	if f != nil {
		f.watch()
		f.enroll.Close()
		f.registry.Close()
	}
}

// pkiConfig is how the CA of a data folder is opened.
func (s *Server) pkiConfig(cfg Config) pki.Config {
	phrase := s.phrase
	switch {
	case cfg.CA.PassphraseFile != "":
		phrase = pki.PassphraseFromFile(cfg.CA.PassphraseFile)
	case phrase == nil:
		phrase = pki.PassphraseFromEnv("SEALMQ_PASSPHRASE")
	}
	return pki.Config{Keys: pki.KeyOptions{Passphrase: phrase}, CRL: cfg.Devices.CRL}
}

// OpenFleet opens the devices, claims and CA of the data folder of cfg, on which no server runs, for commands. It makes what
// is missing but the CA. The returned function closes it.
func OpenFleet(cfg Config, keys pki.KeyOptions, log *slog.Logger) (*control.Fleet, func() error, error) {
	cfg = cfg.Effective()
	opened := pki.Config{Keys: keys, CRL: cfg.Devices.CRL}
	folder, err := pki.OpenFolder(cfg.Data, opened)
	if err != nil {
		return nil, nil, err
	}
	s, err := openRecords(cfg, log, nil)
	if err != nil {
		return nil, nil, err
	}
	f, err := newFleet(cfg, folder, opened, s, log, nil)
	if err != nil {
		return nil, nil, errors.Join(err, s.Close())
	}
	f.watch = f.registry.Watch(func(e registry.Event) { remember(s, e) })
	end := func() error {
		f.identity.Settle()
		f.close()
		return s.Close()
	}
	return &control.Fleet{
		Identity: f.identity, Registry: f.registry, Enroll: f.enroll, Data: cfg.Data, Log: log, Audit: f.report,
	}, end, nil
}

// controlled is what commands work on in a running server; nil without a CA of our own.
func (s *Server) controlled() *control.Fleet {
	f := s.fleet.Load()
	if f == nil {
		return nil
	}
	return &control.Fleet{
		Identity: f.identity, Registry: f.registry, Enroll: f.enroll, Data: s.cfg.Data, Log: s.log,
		Audit: s.report, Certificates: s.shown, RenewCertificates: s.renewShown,
	}
}

// openRecords opens the store of a data folder for its records alone.
func openRecords(cfg Config, log *slog.Logger, fatal func(error)) (store.Store, error) {
	s, err := openDisk(cfg, log, fatal)
	if err != nil {
		return nil, err
	}
	if _, err := s.Load(recordsOnly{}); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// recordsOnly tells those who wait for a record what has become of it, and leaves sessions and messages alone.
type recordsOnly struct{}

func (recordsOnly) Session(*store.Session, []store.Subscription, []uint16, store.QueueState) {}
func (recordsOnly) Retained(*store.Message)                                                  {}
func (recordsOnly) Committed(ops []*store.Op, err error) {
	for _, op := range ops {
		if done, ok := op.Wait.(chan error); ok {
			done <- err
		}
	}
}

// enrolment hands what devices ask for to the fleet.
type enrolment struct{ s *Server }

// Owns implements broker.Service. Without a fleet nobody else has its topics either: there may be one after a reload.
func (e enrolment) Owns(topic []byte) bool {
	if f := e.s.fleet.Load(); f != nil {
		return f.enroll.Owns(topic)
	}
	return bytes.HasPrefix(topic, []byte("$pki/"))
}

// Serve implements broker.Service.
func (e enrolment) Serve(r *broker.Request) {
	if f := e.s.fleet.Load(); f != nil {
		f.enroll.Serve(requestOf(r))
	}
}

// Subscribed implements broker.Greeter.
func (e enrolment) Subscribed(r *broker.Request) {
	if f := e.s.fleet.Load(); f != nil {
		f.enroll.Subscribed(requestOf(r))
	}
}

func requestOf(r *broker.Request) *enroll.Request {
	p := r.Principal
	return &enroll.Request{
		Topic: r.Topic, Payload: r.Payload, Props: r.Props, ClientID: r.ClientID, Addr: r.Peer.Addr,
		Kind: p.Kind, Name: p.Name, Serial: p.Cert.Serial, Key: p.Cert.Key, Expired: r.Peer.Expired, Reply: r.Reply, Close: r.Close,
	}
}

// gonePrefix begins the keys of records of devices that were purged and whose sessions may still be there.
const gonePrefix = "gone/"

// remember has the store keep that a device was purged until its sessions have been ended.
func remember(records registry.Store, e registry.Event) {
	if e.What == "purge" {
		records.Submit(&store.Op{Kind: store.PutRecord, Record: &store.Record{Key: gonePrefix + e.Device, Value: []byte{1}}})
	}
}

// reviews has the broker look at its sessions after what devices may do has changed. Many changes make one review.
type reviews struct {
	due    chan struct{}
	advice chan struct{} // devices and files are to follow the CA

	mu   sync.Mutex
	gone map[string]bool // devices that were purged, with their sessions
}

func newReviews() *reviews {
	return &reviews{due: make(chan struct{}, 1), advice: make(chan struct{}, 1), gone: make(map[string]bool)}
}

// want asks for a review. It never blocks.
func (r *reviews) want() { wake(r.due) }

func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// changed looks at a change in the registry.
func (r *reviews) changed(e registry.Event) {
	switch {
	case e.What == "purge":
		r.mu.Lock()
		r.gone[e.Device] = true
		r.mu.Unlock()
	case e.Was == e.State && len(e.Serials) == 0 && !e.Whole:
		return
	}
	r.want()
}

// reviewPause bounds the time between two reviews while changes go on.
const reviewPause = 200 * time.Millisecond

// review keeps sessions in step with the registry until the server ends.
func (s *Server) review() {
	for {
		select {
		case <-s.stop.Done():
			return
		case <-s.reviews.due:
			began := time.Now()
			s.reviewNow()
			if len(s.reviews.due) == 0 {
				continue
			}
			select { // many change at once: those that end have the processor first
			case <-s.stop.Done():
				return
			case <-time.After(min(5*time.Since(began), reviewPause)):
			}
		}
	}
}

// reviewNow ends the sessions of devices that were purged, and has all others judged again.
func (s *Server) reviewNow() {
	s.reviews.mu.Lock()
	gone := s.reviews.gone
	s.reviews.gone = make(map[string]bool)
	s.reviews.mu.Unlock()
	if len(gone) > 0 {
		s.broker.End(func(p *auth.Principal) bool {
			return p.Method == "certificate" && gone[registry.ID(pki.Kind(p.Kind), p.Name)]
		}, func() { s.forgetGone(gone) })
	}
	s.broker.Review()
}

// forgetGone takes note that no session of these devices can come back, but for those that were purged again meanwhile.
func (s *Server) forgetGone(gone map[string]bool) {
	s.reviews.mu.Lock()
	defer s.reviews.mu.Unlock()
	for id := range gone {
		if !s.reviews.gone[id] {
			s.records.Submit(&store.Op{Kind: store.PutRecord, Record: &store.Record{Key: gonePrefix + id}})
		}
	}
}

// purged finds devices whose sessions are still to be ended: a command has purged them, or the server has crashed.
func (s *Server) purged() error {
	return s.records.Records(gonePrefix, func(key string, _ []byte) bool {
		s.reviews.gone[key[len(gonePrefix):]] = true
		return true
	})
}

// followEvery is how often devices that stay connected are told that their certificate is due.
const followEvery = time.Hour

// follow keeps devices, and the operator's files, in step with the CA until the server ends.
func (s *Server) follow() {
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	for {
		told := true
		select {
		case <-s.stop.Done():
			return
		case <-tick.C:
		case <-s.reviews.advice:
			f := s.fleet.Load()
			told = f != nil && s.issuer != f.identity.CA().DeviceCAs()[0]
		}
		s.publishRoots()
		s.renewOperator()
		if told {
			s.advise()
		}
	}
}

// renewOperator renews the operator's files where they are due.
func (s *Server) renewOperator() {
	if f := s.Folder(); f != nil {
		if _, err := f.Operator(); err != nil {
			s.log.Error("renew operator certificate", "error", err)
		}
	}
}

// advise tells the devices that are connected, and listen, to renew what is due. Others hear it when they subscribe.
func (s *Server) advise() {
	f := s.fleet.Load()
	if f == nil {
		return
	}
	s.issuer = f.identity.CA().DeviceCAs()[0]
	_ = f.registry.Each(registry.Query{}, func(d registry.Device) bool { // no pattern, no error
		if payload, due := f.enroll.AdviceFor(&d, ""); due {
			s.broker.Tell(d.ID, enroll.AdviceTopic, payload, nil)
		}
		return true
	})
}

// publishRoots makes the roots known to devices, in the retained message $pki/cacerts, when they have changed. While the
// store refuses changes it is tried again later.
func (s *Server) publishRoots() {
	f := s.fleet.Load()
	if f == nil || s.store.Ready() != nil {
		return
	}
	roots := f.identity.CA().RootPEM()
	if bytes.Equal(roots, s.roots) {
		return
	}
	if _, err := s.Publish(Message{Topic: enroll.RootsTopic, Payload: roots, QoS: 1, Retain: true}); err != nil {
		s.log.Error("publish the roots", "error", err)
		return
	}
	s.roots = roots
}

// accepted notes who has connected.
func (s *Server) accepted(clientID string, peer *auth.Peer, p *auth.Principal) {
	if !p.Transient { // many enrol from everywhere
		s.sightings.Accepted(clientID, registry.ID(pki.Kind(p.Kind), p.Name), peer.Addr, peer.Cert)
	}
	f := s.fleet.Load()
	if f == nil || peer.Cert == nil {
		return
	}
	seen := registry.Seen{
		Address: peer.Addr, TLSVersion: tls.VersionName(peer.TLSVersion), CipherSuite: tls.CipherSuiteName(peer.CipherSuite),
		Group: tls.CurveID(peer.Group).String(),
	}
	if _, ok := f.enroll.FactoryOf(peer.Cert); ok { // whose certificate may name another
		f.registry.Saw(p.Name, seen)
		return
	}
	f.identity.Saw(peer.Cert, seen)
}

// devices answers the broker's questions about devices, also while there is no fleet.
type devices struct{ s *Server }

// Admit implements auth.Devices.
func (d devices) Admit(peer *auth.Peer) (auth.Admission, error) {
	return d.admit(peer.Cert, peer.Listener, d.s.keeper.Guest(peer.Listener, certs.ID(auth.Identify(peer.Cert))))
}

// admit judges a certificate; foreign says that the CA of a file has issued it. Before CONNECT listener is empty: then
// strangers have no name yet.
func (d devices) admit(leaf *x509.Certificate, listener string, foreign bool) (auth.Admission, error) {
	f := d.s.fleet.Load()
	if f == nil {
		return d.stranger(leaf, listener)
	}
	if _, ok := f.enroll.FactoryOf(leaf); ok {
		return d.factory(leaf)
	}
	restricted, err := f.identity.Admit(leaf)
	if err != nil {
		return auth.Admission{}, err
	}
	switch {
	case f.registry.Check(leaf).Known:
	case foreign:
		a, err := d.stranger(leaf, listener)
		if err == nil && held(f, a.Name) {
			err = &auth.Refusal{Code: mqtt.NotAuthorized, Text: "a device with another certificate has this name"}
		}
		return a, err
	case !slices.ContainsFunc(f.identity.CA().DeviceCAs(), func(ca *x509.Certificate) bool { return leaf.CheckSignatureFrom(ca) == nil }):
		return auth.Admission{}, &auth.Refusal{Code: mqtt.NotAuthorized, Text: "the CA of the certificate is trusted no longer"}
	}
	return auth.Admission{Restricted: restricted}, nil
}

// held reports whether a name belongs to a device with a certificate of ours, or of its maker.
func held(f *fleet, name string) bool {
	d, ok := f.registry.Get(name)
	return ok && (f.enroll.Pinned(&d) || len(d.Certificates) > 0)
}

// stranger admits the holder of a certificate of another CA.
func (d devices) stranger(leaf *x509.Certificate, listener string) (auth.Admission, error) {
	if listener == "" {
		return auth.Admission{}, nil
	}
	return d.s.authentication.stranger(listener, leaf)
}

// verify is Admit for the end of a handshake, resumed ones included.
func (d devices) verify(leaf *x509.Certificate, foreign bool) error {
	_, err := d.admit(leaf, "", foreign)
	if err == nil {
		return nil
	}
	no := &notAdmitted{err: err, cause: "client_certificate_refused", hint: "sealmq device list; for the certificate of a maker, sealmq factory list"}
	if f := d.s.fleet.Load(); f != nil {
		v := f.registry.Check(leaf)
		if _, ok := f.enroll.FactoryOf(leaf); ok { // the registry knows it by its maker's key
			v = registry.Verdict{}
			if id, _, err := f.enroll.Factory(leaf); err == nil {
				v = f.registry.Standing(pki.Device, id, "", [32]byte{})
			}
		}
		id := v.Device
		if id == "" {
			id = "ID"
		}
		switch v.Cause {
		case registry.CauseRevoked:
			no.cause, no.hint = "client_certificate_revoked", "if the device is to be trusted again: sealmq device show "+id
		case registry.CauseSuperseded:
			no.cause, no.hint = "client_certificate_superseded", "let the device use its newer certificate: sealmq device show "+id
		case registry.CauseDisabled:
			no.cause, no.hint = "device_disabled", "sealmq device enable "+id
		case registry.CausePending:
			no.cause, no.hint = "device_pending", "sealmq device enable "+id
		case registry.CauseExpired:
			no.cause, no.hint = "client_certificate_expired", "it never was in the registry: let the device enrol (sealmq claim create --ids "+id+")"
		case registry.CauseRetired: // listeners trust its CA for a moment still
			no.cause, no.hint = "client_certificate_ca", "give the device a certificate of the CA that issues: sealmq device renew "+id
		case registry.CauseTenant:
			no.cause, no.hint = "client_certificate_ca", "it is of another tenant: sealmq device sign issues one for this broker"
		case registry.CauseUnknown:
			no.cause, no.hint = "client_certificate_unknown", "it is not in the registry: sealmq device sign issues one that is"
		}
	}
	return no
}

// notAdmitted is why the holder of a certificate is refused in the handshake.
type notAdmitted struct {
	err         error
	cause, hint string
}

func (e *notAdmitted) Error() string {
	if no := (*auth.Refusal)(nil); errors.As(e.err, &no) {
		return no.Text
	}
	return e.err.Error()
}

func (e *notAdmitted) Unwrap() error { return e.err }

// Refused tells the log what happened, and what can be done.
func (e *notAdmitted) Refused() (cause, hint string) { return e.cause, e.hint }

// factory admits a device with the certificate of its maker.
func (d devices) factory(leaf *x509.Certificate) (auth.Admission, error) {
	f := d.s.fleet.Load()
	id, state, err := f.enroll.Factory(leaf)
	if err != nil {
		return auth.Admission{}, err
	}
	maker, _ := f.enroll.FactoryOf(leaf)
	a := auth.Admission{Name: id, Kind: string(pki.Device), Enrolment: maker.OnlyEnroll}
	if err := stateRefusal(id, state); err != nil {
		return a, err
	}
	a.Restricted = state == registry.Quarantined
	return a, nil
}

// stateRefusal is what a device is told that may not connect; nil if it may.
func stateRefusal(id string, state registry.State) error {
	switch state {
	case registry.Active, registry.Quarantined:
		return nil
	case registry.Pending:
		return &auth.Refusal{Code: mqtt.NotAuthorized, Text: "the device waits for approval: sealmq device enable " + id}
	}
	return &auth.Refusal{Code: mqtt.NotAuthorized, Text: "the device is " + string(state)}
}

// standing judges a principal again. A device whose rights have changed comes back with the new ones.
func (d devices) standing(p *auth.Principal) broker.Standing {
	if p.Method != "certificate" {
		return d.s.authentication.standing(p)
	}
	f := d.s.fleet.Load()
	if p.Cert.Serial != "" {
		ours := f != nil && f.registry.Standing(pki.Kind(p.Kind), p.Name, p.Cert.Serial, p.Cert.Key).Known
		if err := d.s.keeper.Stands(p.Listener, certs.ID(p.Cert), ours); err != nil {
			return broker.Standing{Refused: mqtt.AdministrativeAction, Text: err.Error()}
		}
	}
	if f == nil {
		return broker.Standing{}
	}
	if p.Kind == string(pki.Device) && p.Cert.Serial != "" && !f.enroll.Stands(p.Name, p.Cert.Key) {
		return broker.Standing{Refused: mqtt.AdministrativeAction, Text: "the CA of the device's maker is trusted no longer"}
	}
	restricted, err := f.identity.Stands(p)
	if err != nil {
		text := err.Error()
		if no := (*auth.Refusal)(nil); errors.As(err, &no) {
			text = no.Text
		}
		return broker.Standing{Refused: mqtt.AdministrativeAction, Text: text}
	}
	if p.Cert.Serial != "" && !p.Transient && restricted != p.Restricted {
		return broker.Standing{Refused: mqtt.AdministrativeAction, Text: "the device's rights have changed: connect again"}
	}
	return broker.Standing{}
}
