#include <wolfssl/options.h>

#include <wolfssl/ssl.h>

#include "client.h"

static WOLFSSL *ssl;

static void report(const char *what, int r) {
	int e = wolfSSL_get_error(ssl, r);
	WOLFSSL_ALERT_HISTORY h = {0};
	wolfSSL_get_alert_history(ssl, &h);
	printf("%s: %d, alert received %d, sent %d\n", what, e, h.last_rx.code, h.last_tx.code);
}

static int take(void *p, int n) {
	int r = wolfSSL_read(ssl, p, n);
	if (r <= 0)
		report("wolfSSL_read", r);
	return r;
}

static int give(const void *p, int n) { return wolfSSL_write(ssl, p, n); }

static void must(const char *what, int ok) {
	if (ok)
		return;
	printf("%s failed\n", what);
	exit(1);
}

int main(int argc, char **argv) {
	arguments(argc, argv);
	wolfSSL_Init();
	WOLFSSL_METHOD *m = option("tls12") || option("rsa") ? wolfTLSv1_2_client_method() : wolfSSLv23_client_method();
	if (option("tls11"))
		m = wolfTLSv1_1_client_method();
	must("method", m != NULL);
	WOLFSSL_CTX *ctx = wolfSSL_CTX_new(m);
	must("context", ctx != NULL);
	/* The default is to verify nothing. */
	wolfSSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
	must("read CA", wolfSSL_CTX_load_verify_locations(ctx, ca, NULL) == SSL_SUCCESS);
	if (cert) {
		must("read certificate", wolfSSL_CTX_use_certificate_chain_file(ctx, cert) == SSL_SUCCESS);
		must("read key", wolfSSL_CTX_use_PrivateKey_file(ctx, key, SSL_FILETYPE_PEM) == SSL_SUCCESS);
	}
	if (option("rsa"))
		must("suites", wolfSSL_CTX_set_cipher_list(ctx, "ECDHE-ECDSA-AES128-SHA256") == SSL_SUCCESS);
	ssl = wolfSSL_new(ctx);
	must("session", ssl != NULL);
	wolfSSL_UseSNI(ssl, WOLFSSL_SNI_HOST_NAME, name, strlen(name));
	if (option("alpn")) {
		char protocols[] = "h2";
		must("ALPN", wolfSSL_UseALPN(ssl, protocols, 2, WOLFSSL_ALPN_FAILED_ON_MISMATCH) == SSL_SUCCESS);
	}
	must("name", wolfSSL_check_domain_name(ssl, name) == SSL_SUCCESS);
	wolfSSL_set_fd(ssl, dial());
	int r = wolfSSL_connect(ssl);
	if (r != SSL_SUCCESS) {
		report("wolfSSL_connect", r);
		return 1;
	}
	return converse();
}
