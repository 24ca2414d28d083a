/* CA is a DER file, CERT another, KEY the 32 bytes of a P-256 scalar. */
#include "client.h"

#include <bearssl.h>

static br_ssl_client_context sc;
static br_sslio_context io;
static int fd;

static int low_read(void *ctx, unsigned char *p, size_t n) {
	ssize_t r = read(fd, p, n);
	return r > 0 ? (int)r : -1;
}

static int low_write(void *ctx, const unsigned char *p, size_t n) {
	ssize_t r = send(fd, p, n, MSG_NOSIGNAL);
	return r > 0 ? (int)r : -1;
}

static int take(void *p, int n) {
	int r = br_sslio_read(&io, p, n);
	if (r < 0)
		printf("BearSSL error %d\n", br_ssl_engine_last_error(&sc.eng));
	return r;
}

static int give(const void *p, int n) {
	return br_sslio_write_all(&io, p, n) || br_sslio_flush(&io) ? -1 : n;
}

static size_t load(const char *file, unsigned char *p, size_t room) {
	FILE *f = fopen(file, "rb");
	if (!f) {
		perror(file);
		exit(2);
	}
	size_t n = fread(p, 1, room, f);
	fclose(f);
	return n;
}

static unsigned char dn[2000];
static size_t dn_len;

static void add_dn(void *ctx, const void *p, size_t n) {
	memcpy(dn + dn_len, p, n);
	dn_len += n;
}

int main(int argc, char **argv) {
	arguments(argc, argv);
	static unsigned char der[8000], own[8000], scalar[64];
	br_x509_decoder_context dec;
	size_t n = load(ca, der, sizeof der);
	br_x509_decoder_init(&dec, add_dn, NULL);
	br_x509_decoder_push(&dec, der, n);
	br_x509_pkey *pk = br_x509_decoder_get_pkey(&dec);
	if (!pk) {
		printf("CA: error %d\n", br_x509_decoder_last_error(&dec));
		return 2;
	}
	br_x509_trust_anchor anchor = {{dn, dn_len}, BR_X509_TA_CA, *pk};

	static br_x509_minimal_context xc;
	br_ssl_client_init_full(&sc, &xc, &anchor, 1);
	static unsigned char in[BR_SSL_BUFSIZE_INPUT], out[BR_SSL_BUFSIZE_OUTPUT];
	br_ssl_engine_set_buffers_bidi(&sc.eng, in, number("buffer=", sizeof in), out, sizeof out);
	if (option("silent"))
		sc.eng.log_max_frag_len = sc.eng.peer_log_max_frag_len = 14; /* as large as TLS has them: nothing is announced */
	if (option("tls11"))
		br_ssl_engine_set_versions(&sc.eng, BR_TLS10, BR_TLS11);
	if (option("rsa")) {
		static const uint16_t rsa[] = {BR_TLS_RSA_WITH_AES_128_GCM_SHA256};
		br_ssl_engine_set_suites(&sc.eng, rsa, 1);
	}
	if (option("alpn")) {
		static const char *protocols[] = {"h2"};
		br_ssl_engine_set_protocol_names(&sc.eng, protocols, 1);
	}
	br_x509_certificate chain;
	br_ec_private_key sk;
	if (cert) {
		chain.data = own;
		chain.data_len = load(cert, own, sizeof own);
		sk.curve = BR_EC_secp256r1;
		sk.x = scalar;
		sk.xlen = load(key, scalar, sizeof scalar);
		br_ssl_client_set_single_ec(&sc, &chain, 1, &sk, BR_KEYTYPE_SIGN, BR_KEYTYPE_EC, br_ec_get_default(), br_ecdsa_sign_asn1_get_default());
	}
	fd = dial();
	if (!br_ssl_client_reset(&sc, name, 0)) {
		printf("reset: error %d\n", br_ssl_engine_last_error(&sc.eng));
		return 2;
	}
	br_sslio_init(&io, &sc.eng, low_read, NULL, low_write, NULL);
	if (br_sslio_flush(&io) < 0) {
		printf("BearSSL error %d\n", br_ssl_engine_last_error(&sc.eng));
		return 1;
	}
	return converse();
}
