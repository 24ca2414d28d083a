package authn

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
	"testing"
	"time"

	"github.com/sealmq/sealmq/auth/password"
	"github.com/sealmq/sealmq/mqtt"
)

const slapdConf = `include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
modulepath /usr/lib/ldap
moduleload back_mdb
TLSCACertificateFile %[1]s/ldap-ca.pem
TLSCertificateFile %[1]s/ldap-ca.pem
TLSCertificateKeyFile %[1]s/ldap-key.pem
database mdb
maxsize 10485760
suffix "dc=example,dc=org"
directory %[1]s/ldap
access to attrs=userPassword by anonymous auth by * none
access to * by users read by * none
`

const people = `dn: dc=example,dc=org
objectClass: dcObject
objectClass: organization
dc: example
o: example

dn: cn=reader,dc=example,dc=org
objectClass: person
cn: reader
sn: reader
userPassword: reading-1

dn: uid=Alice,dc=example,dc=org
objectClass: inetOrgPerson
uid: Alice
cn: Alice
sn: Alice
userPassword: wonderland-1
`

// slapd runs OpenLDAP's server in the broker's folder, or skips the test with the reason. It returns its URL.
func slapd(t *testing.T, b *broker) string {
	t.Helper()
	const add, serve = "/usr/sbin/slapadd", "/usr/sbin/slapd"
	for _, path := range []string{add, serve, "/usr/lib/ldap/back_mdb.so", "/etc/ldap/schema/inetorgperson.schema"} {
		if _, err := os.Stat(path); err != nil {
			t.Skipf("skipped: %v; Debian has it in slapd", err)
		}
	}
	ca, key := selfSigned(t)
	b.write(t, "ldap-ca.pem", ca)
	b.write(t, "ldap-key.pem", key)
	conf := b.write(t, "slapd.conf", fmt.Sprintf(slapdConf, b.dir))
	if err := os.Mkdir(b.path("ldap"), 0o700); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(add, "-f", conf, "-l", b.write(t, "people.ldif", people)).CombinedOutput(); err != nil {
		t.Skipf("skipped: slapadd: %v: %s", err, out)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	var log bytes.Buffer
	cmd := exec.Command(serve, "-d", "0", "-h", "ldaps://"+address, "-f", conf)
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Skipf("skipped: slapd: %v", err)
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
		c, err := net.Dial("tcp", address)
		if err == nil {
			c.Close()
			return "ldaps://" + address
		}
		select {
		case <-ended:
			t.Skipf("skipped: slapd ended: %s", log.String())
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// selfSigned is a server at 127.0.0.1 that is its own CA, as PEM.
func selfSigned(t *testing.T) (cert, key string) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "directory"}, NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}))
}

// Users of a directory, behind a file with a user for emergencies.
func TestLDAP(t *testing.T) {
	t.Parallel()
	b := prepare(t, "")
	url := slapd(t, b)
	b.write(t, "sealmq.toml", preamble+fmt.Sprintf(`
[auth.password]
file = "passwords"
[auth.ldap]
url = "%s"
ca_file = "ldap-ca.pem"
bind_dn = "cn=reader,dc=example,dc=org"
password_file = "reader"
search_base = "dc=example,dc=org"
timeout = "1m"
[[listener]]
name = "tls"
address = "127.0.0.1:0"
client_certificates = "none"
auth = ["password", "ldap"]
`, url))
	b.write(t, "reader", "reading-1\n")
	b.users(t, password.Argon2id, "emergency", "break-glass-1")
	b.secrets = append(b.secrets, "reading-1", "wonderland-1", "wonderland-2")
	b.start(t)
	b.connect(t, user("alice", "wonderland-1"))
	b.awaitLog(t, 0, `"msg":"authenticated"`, `"by":"ldap"`, `"principal":"Alice"`, `"method":"ldap"`)
	b.refused(t, user("alice", "wonderland-2"), mqtt.BadUserNameOrPassword, "wrong")
	b.refused(t, user("alice", ""), mqtt.BadUserNameOrPassword, "wrong")
	b.refused(t, user("*", "wonderland-1"), mqtt.BadUserNameOrPassword, "wrong")
	b.connect(t, user("emergency", "break-glass-1"))
}
