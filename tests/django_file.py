"""Makes a file as Django's own applications do: users, groups, permissions, the admin's log, sessions, sites, redirects, pages."""

import sys

import django
from django.conf import settings

settings.configure(
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": sys.argv[1]}},
    INSTALLED_APPS=["django.contrib." + name for name in
                    ["admin", "auth", "contenttypes", "sessions", "sites", "redirects", "flatpages", "messages"]],
    SITE_ID=1, USE_TZ=True, DEFAULT_AUTO_FIELD="django.db.models.AutoField",
    TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates",
                "OPTIONS": {"context_processors": ["django.contrib.auth.context_processors.auth",
                                                   "django.contrib.messages.context_processors.messages"]}}],
    MIDDLEWARE=["django.contrib.sessions.middleware.SessionMiddleware",
                "django.contrib.auth.middleware.AuthenticationMiddleware",
                "django.contrib.messages.middleware.MessageMiddleware"],
)
django.setup()

from django.contrib.admin.models import LogEntry  # noqa: E402
from django.contrib.auth.models import Group, Permission, User  # noqa: E402
from django.contrib.contenttypes.models import ContentType  # noqa: E402
from django.contrib.flatpages.models import FlatPage  # noqa: E402
from django.contrib.sites.models import Site  # noqa: E402
from django.core.management import call_command  # noqa: E402

call_command("migrate", verbosity=0)
permissions = list(Permission.objects.all())
groups = [Group.objects.create(name=f"group {n}") for n in range(5)]
for n, group in enumerate(groups):
    group.permissions.set(permissions[n::5])
kind = ContentType.objects.get_for_model(User)
for n in range(40):
    user = User.objects.create(username=f"user{n}", first_name=f"First {n}", email=f"user{n}@example.org")
    user.groups.set(groups[n % 5:n % 5 + 2])
    LogEntry.objects.create(user=user, content_type=kind, object_id=str(user.pk), object_repr=str(user), action_flag=1)
for n in range(10):
    FlatPage.objects.create(url=f"/page/{n}/", title=f"Page {n}", content="text " * n).sites.set([Site.objects.get()])
