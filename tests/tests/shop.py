"""A shop on SQLAlchemy's ORM that lets SQLite number its rows: shop.py FILE KIND SEED DAYS, KIND plain or autoincrement."""
import random
import sys

from sqlalchemy import ForeignKey, create_engine, event, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

FILE, KIND, SEED, DAYS = sys.argv[1:]
OPTIONS = {"sqlite_autoincrement": KIND == "autoincrement"}


class Base(DeclarativeBase):
    pass


class Customer(Base):
    __tablename__ = "customers"
    __table_args__ = OPTIONS
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    orders: Mapped[list["Order"]] = relationship(back_populates="customer")


class Order(Base):
    __tablename__ = "orders"
    __table_args__ = OPTIONS
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    of: Mapped[str]
    customer_id: Mapped[int] = mapped_column(ForeignKey("customers.id"))
    customer: Mapped[Customer] = relationship(back_populates="orders")
    lines: Mapped[list["Line"]] = relationship(back_populates="order")


class Line(Base):
    __tablename__ = "lines"
    order_id: Mapped[int] = mapped_column(ForeignKey("orders.id"), primary_key=True)
    n: Mapped[int] = mapped_column(primary_key=True)
    of: Mapped[str]
    order: Mapped[Order] = relationship(back_populates="lines")


engine = create_engine(f"sqlite:///{FILE}", connect_args={"timeout": 30})


@event.listens_for(engine, "connect")
def foreign_keys(connection, _):
    connection.execute("PRAGMA foreign_keys = ON")


def order(chance, customer, name):
    made = Order(name=name, of=customer.name, customer=customer)
    made.lines = [Line(n=n, of=name) for n in range(1, chance.randint(1, 3) + 1)]
    return made


Base.metadata.create_all(engine)
chance = random.Random(SEED)
for day in range(int(DAYS)):
    with Session(engine) as session, session.begin():
        for n in range(chance.randint(1, 5)):
            customer = Customer(name=f"customer {SEED} {day} {n}")
            session.add(customer)
            session.flush()
            # What the application was told is what it has.
            assert session.scalar(select(Customer.name).where(Customer.id == customer.id)) == customer.name
            session.add_all(order(chance, customer, f"order {SEED} {day} {n} {m}") for m in range(chance.randint(0, 3)))
        known = session.scalars(select(Customer).order_by(Customer.name)).all()
        for m in range(chance.randint(0, 4)):
            session.add(order(chance, chance.choice(known), f"order {SEED} {day} known {m}"))
