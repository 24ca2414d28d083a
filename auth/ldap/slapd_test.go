package ldap

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	goldap "github.com/go-ldap/ldap/v3"
)

// directory is OpenLDAP's slapd with a few users.
type directory struct {
	tls, plain string // URLs
	ca         string // PEM file
	password   string // file with that of cn=reader,dc=example,dc=org
}

const slapdConf = `include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
modulepath /usr/lib/ldap
moduleload back_mdb
moduleload memberof
TLSCACertificateFile %[1]s/ca.pem
TLSCertificateFile %[1]s/ca.pem
TLSCertificateKeyFile %[1]s/key.pem
database mdb
maxsize 10485760
suffix "dc=example,dc=org"
rootdn "cn=admin,dc=example,dc=org"
rootpw admin
directory %[1]s
overlay memberof
access to attrs=userPassword by anonymous auth by * none
access to dn.exact="" by * read
access to dn.subtree="ou=private,dc=example,dc=org" by dn.exact="cn=admin,dc=example,dc=org" read by anonymous auth by * none
access to * by users read by * none
`

// start runs slapd, or skips the test with the reason.
func start(t *testing.T) *directory {
	slapd, err := exec.LookPath("slapd")
	if err != nil {
		slapd = "/usr/sbin/slapd"
	}
	for _, path := range []string{slapd, "/usr/lib/ldap/back_mdb.so", "/etc/ldap/schema/inetorgperson.schema"} {
		if _, err := os.Stat(path); err != nil {
			t.Skipf("needs slapd with its modules (apt-get install slapd): %v", err)
		}
	}
	dir := t.TempDir()
	certificate(t, dir)
	put := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	conf := put("slapd.conf", fmt.Sprintf(slapdConf, dir))
	d := &directory{tls: "ldaps://" + free(t), plain: "ldap://" + free(t), ca: filepath.Join(dir, "ca.pem"), password: put("password", "reading\n")}
	var log bytes.Buffer
	cmd := exec.Command(slapd, "-d", "0", "-h", d.plain+" "+d.tls, "-f", conf)
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Skipf("slapd does not start: %v", err)
	}
	ended := make(chan struct{})
	go func() {
		cmd.Wait()
		close(ended)
	}()
	t.Cleanup(func() {
		cmd.Process.Kill()
		<-ended
	})
	for {
		c, err := goldap.DialURL(d.plain)
		if err == nil {
			defer c.Close()
			fill(t, c)
			return d
		}
		select {
		case <-ended:
			t.Skipf("slapd ended: %s", log.String())
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// fill adds the users and groups of the tests.
func fill(t *testing.T, c *goldap.Conn) {
	if err := c.Bind("cn=admin,dc=example,dc=org", "admin"); err != nil {
		t.Fatal(err)
	}
	add := func(dn string, attributes map[string][]string) {
		r := goldap.NewAddRequest(dn, nil)
		for k, v := range attributes {
			r.Attribute(k, v)
		}
		if err := c.Add(r); err != nil {
			t.Fatalf("add %s: %v", dn, err)
		}
	}
	person := func(dn, sn, password string, uid ...string) {
		add(dn, map[string][]string{"objectClass": {"inetOrgPerson"}, "cn": {sn}, "sn": {sn}, "uid": uid, "userPassword": {password}})
	}
	add("dc=example,dc=org", map[string][]string{"objectClass": {"dcObject", "organization"}, "dc": {"example"}, "o": {"example"}})
	for _, ou := range []string{"people", "private", "groups"} {
		add("ou="+ou+",dc=example,dc=org", map[string][]string{"objectClass": {"organizationalUnit"}, "ou": {ou}})
	}
	add("cn=reader,dc=example,dc=org", map[string][]string{"objectClass": {"person"}, "cn": {"reader"}, "sn": {"reader"}, "userPassword": {"reading"}})
	const people = ",ou=people,dc=example,dc=org"
	person("uid=alice"+people, "Alice", "wonderland", "alice")
	person("uid=bob"+people, "Bob", "builder", "bob")
	person("uid="+goldap.EscapeDN(`we,ird=+"\<>;#`)+people, "Weird", "strange", `we,ird=+"\<>;#`)
	person("uid="+goldap.EscapeDN("st*r)(uid=alice")+people, "Star", "star", "st*r)(uid=alice")
	person("cn=two"+people, "two", "twice", "two", "also")
	person("cn=twin1"+people, "twin1", "x", "twin")
	person("cn=twin2"+people, "twin2", "x", "twin")
	person("uid=hidden,ou=private,dc=example,dc=org", "Hidden", "secret", "hidden")
	group := func(cn string, members ...string) {
		add("cn="+goldap.EscapeDN(cn)+",ou=groups,dc=example,dc=org", map[string][]string{"objectClass": {"groupOfNames"}, "cn": {cn}, "member": members})
	}
	group("ops", "uid=alice"+people, "uid=bob"+people)
	group("plant, north", "uid=alice"+people)
}

// free is an address of this machine that nobody listens at.
func free(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// certificate writes ca.pem, of a server at 127.0.0.1 that is its own CA, and key.pem.
func certificate(t *testing.T, dir string) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "directory"}, NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string]*pem.Block{"ca.pem": {Type: "CERTIFICATE", Bytes: der}, "key.pem": {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(b), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
