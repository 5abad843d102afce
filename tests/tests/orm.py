"""A small application on SQLAlchemy's ORM that knows nothing of sync: orm.py FILE STEP."""
import datetime
import enum
import sys

from sqlalchemy import ForeignKey, JSON, create_engine, event, select
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship


class Base(DeclarativeBase):
    pass


class State(enum.Enum):
    OPEN = 1
    DONE = 2


class Person(Base):
    __tablename__ = "people"
    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    settings: Mapped[dict] = mapped_column(JSON, default=dict)
    tasks: Mapped[list["Task"]] = relationship(back_populates="owner", cascade="all, delete-orphan")


class Task(Base):
    __tablename__ = "tasks"
    id: Mapped[str] = mapped_column(primary_key=True)
    title: Mapped[str]
    state: Mapped[State] = mapped_column(default=State.OPEN)
    due: Mapped[datetime.datetime | None]
    owner_id: Mapped[str] = mapped_column(ForeignKey("people.id"))
    owner: Mapped[Person] = relationship(back_populates="tasks")


engine = create_engine(f"sqlite:///{sys.argv[1]}", connect_args={"timeout": 30})


@event.listens_for(engine, "connect")
def foreign_keys(connection, _):
    connection.execute("PRAGMA foreign_keys = ON")


def create():
    Base.metadata.create_all(engine)


def write():
    with Session(engine) as session, session.begin():
        ann = Person(id="ann", name="Ann", settings={"theme": "dark"})
        bob = Person(id="bob", name="Bob")
        ann.tasks = [
            Task(id=f"a{n}", title=f"Ann's {n}", due=datetime.datetime(2026, 1, 1 + n)) for n in range(20)
        ]
        bob.tasks = [Task(id="b0", title="Bob's")]
        session.add_all([ann, bob])


def edit():
    with Session(engine) as session, session.begin():
        ann = session.scalars(select(Person).where(Person.name == "Ann")).one()
        ann.settings = {**ann.settings, "size": 12}
        first = session.get(Task, "a0")
        first.state = State.DONE
        first.owner = session.get(Person, "bob")
        session.delete(session.get(Task, "a1"))
        upsert = insert(Task).values(id="a2", title="new", owner_id="ann", state=State.OPEN)
        session.execute(upsert.on_conflict_do_update(index_elements=["id"], set_={"title": "written again"}))
    with Session(engine) as session:
        try:
            session.add(Person(id="ann2", name="Ann"))
            session.commit()
        except Exception:
            session.rollback()
        else:
            raise SystemExit("two people of one name")


def leave():
    with Session(engine) as session, session.begin():
        session.delete(session.get(Person, "bob"))


{"create": create, "write": write, "edit": edit, "leave": leave}[sys.argv[2]]()
