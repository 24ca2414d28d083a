#include "client.h"

#include <mbedtls/ctr_drbg.h>
#include <mbedtls/entropy.h>
#include <mbedtls/error.h>
#include <mbedtls/net_sockets.h>
#include <mbedtls/ssl.h>

static mbedtls_ssl_context ssl;

static int take(void *p, int n) {
	int r;
	do
		r = mbedtls_ssl_read(&ssl, p, n);
	while (r == MBEDTLS_ERR_SSL_WANT_READ);
	if (r < 0)
		printf("mbedtls_ssl_read: -0x%04x\n", -r);
	return r;
}

static int give(const void *p, int n) { return mbedtls_ssl_write(&ssl, p, n); }

static void must(const char *what, int r) {
	if (r == 0)
		return;
	char text[200];
	mbedtls_strerror(r, text, sizeof text);
	printf("%s: -0x%04x %s\n", what, -r, text);
	uint32_t flags = mbedtls_ssl_get_verify_result(&ssl);
	if (flags != 0 && flags != 0xffffffff)
		printf("verify flags 0x%x\n", (unsigned)flags);
	exit(1);
}

int main(int argc, char **argv) {
	arguments(argc, argv);
	mbedtls_ssl_config conf;
	mbedtls_entropy_context entropy;
	mbedtls_ctr_drbg_context rng;
	mbedtls_x509_crt roots, own;
	mbedtls_pk_context pk;
	mbedtls_net_context net;
	static const int rsa[] = {MBEDTLS_TLS_RSA_WITH_AES_128_GCM_SHA256, 0};
	static const char *protocols[] = {"h2", NULL};

	mbedtls_ssl_init(&ssl);
	mbedtls_ssl_config_init(&conf);
	mbedtls_entropy_init(&entropy);
	mbedtls_ctr_drbg_init(&rng);
	mbedtls_x509_crt_init(&roots);
	mbedtls_x509_crt_init(&own);
	mbedtls_pk_init(&pk);
	must("seed", mbedtls_ctr_drbg_seed(&rng, mbedtls_entropy_func, &entropy, NULL, 0));
	must("read CA", mbedtls_x509_crt_parse_file(&roots, ca));
	must("defaults", mbedtls_ssl_config_defaults(&conf, MBEDTLS_SSL_IS_CLIENT, MBEDTLS_SSL_TRANSPORT_STREAM, MBEDTLS_SSL_PRESET_DEFAULT));
	mbedtls_ssl_conf_rng(&conf, mbedtls_ctr_drbg_random, &rng);
	mbedtls_ssl_conf_ca_chain(&conf, &roots, NULL);
	mbedtls_ssl_conf_authmode(&conf, MBEDTLS_SSL_VERIFY_REQUIRED);
	if (cert) {
		must("read certificate", mbedtls_x509_crt_parse_file(&own, cert));
		must("read key", mbedtls_pk_parse_keyfile(&pk, key, NULL));
		must("own certificate", mbedtls_ssl_conf_own_cert(&conf, &own, &pk));
	}
	if (option("tls11")) {
		mbedtls_ssl_conf_min_version(&conf, MBEDTLS_SSL_MAJOR_VERSION_3, MBEDTLS_SSL_MINOR_VERSION_1);
		mbedtls_ssl_conf_max_version(&conf, MBEDTLS_SSL_MAJOR_VERSION_3, MBEDTLS_SSL_MINOR_VERSION_2);
	}
	if (option("rsa"))
		mbedtls_ssl_conf_ciphersuites(&conf, rsa);
	if (option("alpn"))
		must("ALPN", mbedtls_ssl_conf_alpn_protocols(&conf, protocols));
	must("setup", mbedtls_ssl_setup(&ssl, &conf));
	must("name", mbedtls_ssl_set_hostname(&ssl, name));
	net.fd = dial();
	mbedtls_ssl_set_bio(&ssl, &net, mbedtls_net_send, mbedtls_net_recv, NULL);
	must("handshake", mbedtls_ssl_handshake(&ssl));
	return converse();
}
