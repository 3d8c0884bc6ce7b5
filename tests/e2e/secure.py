"""A nats-server that lets in only who has a certificate of the fab's authority and credentials of its account, and the files
that Chamberlain is given for it. Certificates by openssl; JSON web tokens as nats-server's decentralised authentication wants
them (operator, account, user), signed by keys made here."""

import base64
import hashlib
import json
import os
import subprocess
import time

import nkeys


def openssl(*arguments, cwd):
    done = subprocess.run(["openssl", *map(str, arguments)], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def make_authority(folder, name="authority"):
    """FOLDER/NAME.{key,crt}."""
    folder.mkdir(parents=True, exist_ok=True)
    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", 2, "-subj",
            f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.crt", cwd=folder)


def make_certificate(folder, name, authority="authority"):
    """FOLDER/NAME.{key,crt} for 127.0.0.1, as server and as client."""
    openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", f"/CN={name}", "-keyout",
            f"{name}.key", "-out", f"{name}.csr", cwd=folder)
    (folder / f"{name}.ext").write_text("subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth\n")
    openssl("x509", "-req", "-in", f"{name}.csr", "-CA", f"{authority}.crt", "-CAkey", f"{authority}.key", "-CAcreateserial",
            "-days", 2, "-extfile", f"{name}.ext", "-out", f"{name}.crt", cwd=folder)


class Identity:
    """A key pair and what it signs."""

    def __init__(self, prefix):
        self.seed = bytes(nkeys.encode_seed(os.urandom(32), prefix))
        self._pair = nkeys.from_seed(bytearray(self.seed))
        self.public = self._pair.public_key.decode()

    def token(self, subject, name, **claims):
        body = {"iat": int(time.time()), "iss": self.public, "name": name, "sub": subject, "nats": {"version": 2, **claims}}
        body["jti"] = base64.b32encode(hashlib.sha256(json.dumps(body).encode()).digest()).decode().rstrip("=")
        head = {"typ": "JWT", "alg": "ed25519-nkey"}
        text = ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in (head, body))
        return text + "." + base64.urlsafe_b64encode(self._pair.sign(text.encode())).decode().rstrip("=")


class SecureFiles:
    """What an administrator hands out: server configuration, certificates and credentials, all in `folder`."""

    def __init__(self, folder):
        self.folder = folder
        make_authority(folder)
        for name in ("server", "client"):
            make_certificate(folder, name)
        operator = Identity(nkeys.PREFIX_BYTE_OPERATOR)
        account, system = Identity(nkeys.PREFIX_BYTE_ACCOUNT), Identity(nkeys.PREFIX_BYTE_ACCOUNT)
        anything = {"subs": -1, "conn": -1, "leaf": -1, "imports": -1, "exports": -1, "data": -1, "payload": -1, "wildcards": True,
                    "mem_storage": -1, "disk_storage": -1, "streams": -1, "consumer": -1}
        operator_token = operator.token(operator.public, "fab", type="operator")
        account_token = operator.token(account.public, "fdc", type="account", limits=anything)
        # JetStream is not for the system's own account.
        system_token = operator.token(system.public, "system", type="account",
                                      limits=anything | {"mem_storage": 0, "disk_storage": 0})
        self.authentication = (f"operator: {operator_token}\nsystem_account: {system.public}\nresolver: MEMORY\n"
                               f"resolver_preload {{ {account.public}: {account_token}, {system.public}: {system_token} }}\n")
        self.tls = (f'tls {{ cert_file: "{folder}/server.crt", key_file: "{folder}/server.key",'
                    f' ca_file: "{folder}/authority.crt", verify: true }}\n')
        self.credentials = self.make_credentials("defender.creds", account)

    def make_credentials(self, name, account):
        """A file that lets a user of `account` in."""
        user = Identity(nkeys.PREFIX_BYTE_USER)
        token = account.token(user.public, "defender", type="user", subs=-1, data=-1, payload=-1)
        path = self.folder / name
        path.write_text(f"-----BEGIN NATS USER JWT-----\n{token}\n------END NATS USER JWT------\n\n"
                        f"-----BEGIN USER NKEY SEED-----\n{user.seed.decode()}\n------END USER NKEY SEED------\n")
        path.chmod(0o600)
        return path

    def environment(self):
        """What Chamberlain's processes are told, by names of files alone."""
        return {"CHAMBERLAIN_NATS_CREDENTIALS": str(self.credentials), "CHAMBERLAIN_NATS_CA": str(self.folder / "authority.crt"),
                "CHAMBERLAIN_NATS_CERTIFICATE": str(self.folder / "client.crt"),
                "CHAMBERLAIN_NATS_KEY": str(self.folder / "client.key")}
